"""Run roc-validator on a crate without a network: `python crate_validator.py CRATE CONTEXT` prints its issues as JSON.

A program of its own, run by the Python that roc-validator is installed in: it wants older packages than deblur. CONTEXT:
the terms of RO-Crate as the rocrate package ships them (of 1.3, which holds those of 1.1).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TERMS = {  # of https://w3id.org/ro/terms/workflow-run/context, as far as run records use it
    "@context": {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
    | {"environment": "https://w3id.org/ro/terms/workflow-run#environment"}
}


def main(crate: str, context: str) -> None:
    from rdflib.plugins.shared.jsonld import context as jsonld
    from rocrate_validator import models, services
    from rocrate_validator.utils import document_loader, http

    known = {
        "https://w3id.org/ro/crate/1.1/context": json.loads(Path(context).read_text(encoding="utf-8")),
        "https://w3id.org/ro/terms/workflow-run/context": TERMS,
    }

    class Answer:
        status_code, headers = 200, {"Content-Type": "application/ld+json"}

        def __init__(self, url: str) -> None:
            self._told = known[url]
            self.text = json.dumps(self._told)
            self.content = self.text.encode()

        def json(self) -> Any:
            return self._told

        def raise_for_status(self) -> None:
            pass

    def get(_self: Any, url: str, *_: Any, **__: Any) -> Answer:
        return Answer(url)

    http.HttpRequester.get = get
    http.HttpRequester.head = get
    document_loader.install_document_loader = lambda: True
    jsonld.source_to_json = lambda source, *_, **__: (known[str(source)], None)
    settings = services.ValidationSettings(
        rocrate_uri=crate,
        profile_identifier="process-run-crate",
        requirement_severity=models.Severity.REQUIRED,
    )
    result = services.validate(settings)
    passed = len(result.executed_checks) - len(result.failed_checks)
    issues = [
        {"severity": issue.severity.name, "check": issue.check.identifier, "message": issue.message}
        for issue in result.get_issues()
    ]
    print(json.dumps({"passed": passed, "issues": issues}))


if __name__ == "__main__":
    main(*sys.argv[1:])
