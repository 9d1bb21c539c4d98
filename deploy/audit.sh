#!/usr/bin/env bash
# Known vulnerabilities of the versions in constraints.txt (pip-audit), and an SBOM of them (CycloneDX).
# Usage: deploy/audit.sh [SBOM.json]. Leaves with 1 when pip-audit found something or could not ask. Needs the network.
set -euo pipefail
sbom=$(realpath -m "${1:-sbom.cdx.json}")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install -q 'pip-audit>=2.7' 'cyclonedx-bom>=5'
"$work/tools/bin/cyclonedx-py" requirements constraints.txt --pyproject pyproject.toml --output-file "$sbom"
echo "SBOM: $sbom"
# what is pinned for other Pythons than this one is asked about as well: a package's second version in a second list
sed 's/ *;.*//' constraints.txt | awk -F== -v to="$work" '/==/ {print > (to "/" ++seen[$1] ".txt")}'
found=0
for list in "$work"/*.txt; do
  "$work/tools/bin/pip-audit" --requirement "$list" --no-deps --disable-pip --progress-spinner off --strict || found=1
done
exit "$found"
