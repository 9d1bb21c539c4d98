# ruff: noqa: E501  (a style sheet reads better in its own lines)
"""The page's own style and its few lines of script: inline, so that the file stands alone, offline and archived."""

STYLE = """
:root{color-scheme:light dark;--paper:#faf9f7;--card:#fff;--ink:#1d1f23;--soft:#5d636d;--line:#dfdcd6;--accent:#0b6b75;
--good:#0a7a55;--bad:#b3401c;--shadow:0 1px 2px #0001,0 6px 20px #0000000d}
@media (prefers-color-scheme:dark){:root{--paper:#15171a;--card:#1e2125;--ink:#e9e7e2;--soft:#a3a8b0;--line:#343940;
--accent:#62c4cf;--good:#52c79a;--bad:#f0895f;--shadow:none}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:70rem;margin-inline:auto;padding-inline:clamp(1rem,4vw,2rem)}
header{padding-top:clamp(1.5rem,5vw,3rem)}
h1{font-size:clamp(1.5rem,4.5vw,2.3rem);line-height:1.15;letter-spacing:-.015em;margin:0 0 .5rem;text-wrap:balance;
overflow-wrap:anywhere}
h2{font-size:1.3rem;line-height:1.25;letter-spacing:-.01em;margin:0 0 .3rem}
p{margin:0 0 1rem;max-width:48rem;text-wrap:pretty}
.soft{color:var(--soft)}
section{margin-top:clamp(2.2rem,6vw,3.4rem)}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;margin-top:1rem;font-size:.94rem}
a{color:var(--accent);text-underline-offset:.2em}
nav a{padding-block:.35rem}
a:focus-visible,button:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:3px solid var(--accent);
outline-offset:2px;border-radius:4px}
.figures{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.4rem 0 0;padding:0}
.figures div{flex:1 1 13rem;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.8rem .95rem;box-shadow:var(--shadow)}
.figures dt{color:var(--soft);font-size:.84rem;line-height:1.35}
.figures dd{margin:0;font-size:1.5rem;font-weight:650;line-height:1.3;white-space:nowrap;font-variant-numeric:tabular-nums}
.figures dd+dd{font-size:.84rem;font-weight:400;white-space:normal;color:var(--soft)}
.good{color:var(--good)}.bad{color:var(--bad)}
.pair{display:grid;gap:1.1rem;grid-template-columns:repeat(auto-fit,minmax(min(19rem,100%),1fr))}
.trio{display:grid;gap:1.1rem;grid-template-columns:repeat(auto-fit,minmax(min(17rem,100%),1fr))}
figure{margin:0}
.wide{display:grid;gap:1.1rem;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr))}
.halves{display:grid;grid-template-columns:1fr 1fr;gap:3px}
.curve{margin-bottom:1rem;color:var(--accent)}
.curve svg{display:block;width:100%;height:6rem;background:var(--card);border:1px solid var(--line);border-radius:10px}
figure img,.compare img{display:block;width:100%;height:auto;border-radius:6px;background:#8883}
figcaption{font-size:.9rem;color:var(--soft);margin-top:.45rem;line-height:1.45;overflow-wrap:anywhere}
figcaption b{color:var(--ink);font-weight:600}
.large img{image-rendering:pixelated}
.compare{position:relative;overflow:hidden;border-radius:8px;--at:50%;background:#8883;margin-inline:auto}
.compare img{border-radius:0;user-select:none;-webkit-user-drag:none}
.compare .top{position:absolute;inset:0;clip-path:inset(0 calc(100% - var(--at)) 0 0)}
.compare .tag{position:absolute;top:.6rem;padding:.12rem .55rem;border-radius:99px;background:#000a;color:#fff;font-size:.82rem}
.compare .tag.left{left:.6rem}.compare .tag.right{right:.6rem}
.compare .edge{position:absolute;top:0;bottom:0;left:var(--at);width:2px;margin-left:-1px;background:#fff;
box-shadow:0 0 0 1px #0006;pointer-events:none}
.compare .edge::after{content:"\\2194";position:absolute;top:50%;left:50%;width:38px;height:38px;margin:-19px;border-radius:50%;
background:#fff;color:#111;font:600 20px/36px system-ui,sans-serif;text-align:center;box-shadow:0 1px 5px #0008}
.compare input{position:absolute;top:0;left:-22px;width:calc(100% + 44px);height:100%;margin:0;opacity:0;cursor:ew-resize;
touch-action:pan-y;-webkit-appearance:none;appearance:none}
.compare input::-webkit-slider-thumb{-webkit-appearance:none;width:44px;height:100vh}
.compare input::-moz-range-thumb{width:44px;height:100vh;border:0}
.compare:has(input:focus-visible){outline:3px solid var(--accent);outline-offset:3px}
.keys{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center;margin-top:.75rem}
button{font:inherit;font-size:.92rem;color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.45rem .9rem;min-height:2.6rem;cursor:pointer}
button:hover{border-color:var(--accent)}
.legend{display:flex;gap:.7rem;align-items:center;margin-top:.6rem;font-size:.9rem;color:var(--soft)}
.legend .ramp{flex:1 1 auto;width:auto;min-width:3rem;max-width:16rem;height:.8rem;border-radius:3px;image-rendering:auto}
.legend .wheel{width:5.5rem;flex:none;background:none}
.legend>span{font-variant-numeric:tabular-nums}
ul.reasons{list-style:none;margin:.6rem 0 0;padding:0;font-size:.9rem;color:var(--soft)}
ul.reasons li{display:grid;grid-template-columns:1rem 4rem 1fr;gap:.55rem;padding:.12rem 0;align-items:baseline}
ul.reasons i{width:1rem;height:.8rem;border-radius:3px;border:1px solid #8888}
ul.reasons b{color:var(--ink);font-weight:600;text-align:right;font-variant-numeric:tabular-nums}
.scroll{overflow:auto;max-height:32rem;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{padding:.45rem .8rem;text-align:right;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
thead th{position:sticky;top:0;background:var(--card);font-weight:600;color:var(--soft);box-shadow:inset 0 -1px var(--line)}
tbody th{font-weight:400}
tbody tr:last-child>*{border-bottom:0}
.gain{display:inline-block;height:.55rem;margin-right:.5rem;border-radius:2px;background:currentColor;vertical-align:baseline}
details{background:var(--card);border:1px solid var(--line);border-radius:10px;margin-bottom:.6rem;overflow:hidden}
summary{padding:.65rem 1rem;cursor:pointer;font-weight:600;overflow-wrap:anywhere}
details td{white-space:normal;overflow-wrap:anywhere;text-align:left}
details th{text-align:left;font-weight:400;color:var(--soft);width:36%;white-space:normal;overflow-wrap:anywhere;vertical-align:top}
details table{border-top:1px solid var(--line)}
footer{margin-top:3.5rem;padding-block:1.2rem 2.5rem;color:var(--soft);font-size:.88rem;border-top:1px solid var(--line)}
@media (max-width:34rem){th,td{padding:.4rem .4rem}table{font-size:.84rem}thead th{white-space:normal}.gain{display:none}
tbody th{white-space:normal;overflow-wrap:anywhere;min-width:6rem}.figures div{flex-basis:8rem;padding:.65rem .8rem}
.figures dd{font-size:1.3rem}}
@media print{nav,.keys,.compare input{display:none}.scroll{max-height:none}section{break-inside:avoid}}
"""

NO_SCRIPT = """
.compare .top{position:relative;clip-path:none}.compare .edge,.compare input,.keys{display:none}
"""

SCRIPT = """
for (const box of document.querySelectorAll('.compare')) {
  const range = box.querySelector('input');
  const show = () => {
    box.style.setProperty('--at', range.value + '%');
    range.setAttribute('aria-valuetext', range.value + ' % ' + range.dataset.left + ', the rest ' + range.dataset.right);
  };
  range.addEventListener('input', show);
  for (const button of box.parentElement.querySelectorAll('button')) {
    button.addEventListener('click', () => { range.value = button.value; show(); });
  }
  show();
}
"""
