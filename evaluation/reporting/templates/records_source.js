// Where the rows of records.js come from: the page itself, or `inverdict view`, which is asked again and again.
const SECONDS_BETWEEN_POLLS = 2;

const unpacked = async (base64) => {
  const binary = atob(base64), bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place++) bytes[place] = binary.charCodeAt(place);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
};
let shownProgress = "";
const showProgress = (state) => {
  if (shownProgress === JSON.stringify(state)) return;
  shownProgress = JSON.stringify(state);
  const made = [], jobs = make("ul", undefined, "jobs");
  for (const { job, state: word } of state.jobs) jobs.append(make("li", `${job}: ${word}`));
  if (state.has_report) {
    const link = make("a", "report"), place = make("p");
    link.href = "report.html";
    place.append(link);
    made.push(place);
  }
  made.push(jobs, ...state.problems.map((problem) => make("p", problem, "note")));
  const bars = [...(state.has_report ? [] : state.judges), ...state.pairs.map((one) => ({ ...one, judge: `pairs: ${one.judge}` }))];
  made.push(...bars.map(({ judge, done, of }) => {
    const place = make("p"), bar = make("progress");
    if (of !== null) [bar.max, bar.value] = [of || 1, done];
    place.append(bar, ` ${judge}: ${done.toLocaleString("en")}${of === null ? "" : ` of ${of.toLocaleString("en")}`} verdicts`);
    return place;
  }));
  $("progress").replaceChildren(...made);
};
// The content of an address. Throws an error with a sentence where there is a problem.
const fetched = async (address) => {
  const answer = await fetch(address).catch(() => {
    throw new Error("`inverdict view` has stopped; this page shows what it had.");
  });
  const content = await answer.text();
  if (!answer.ok) throw new Error(content);
  return JSON.parse(content);
};
const follow = async () => {
  let version = null, hadReport = true; // at first: only a report that comes later is gone to
  for (;;) {
    try {
      const state = await fetched("state");
      if (state.has_report && !hadReport) return location.assign("report.html");
      hadReport = state.has_report;
      showProgress(state);
      if (state.version !== version && !String(getSelection())) {
        load(await fetched("rows"));
        version = state.version;
      }
      $("trouble").hidden = true;
    } catch (error) {
      $("trouble").textContent = error.message;
      $("trouble").hidden = false;
    }
    await new Promise((done) => setTimeout(done, 1000 * SECONDS_BETWEEN_POLLS));
  }
};
$("status").textContent = "Loading …"; // by the script: without one the page says what is missing
if (!$("data")) follow();
else unpacked($("data").textContent).then(load, (error) => {
  $("status").textContent = `The rows of this page cannot be read (${error}). A browser of 2023 or later is needed.`;
});
