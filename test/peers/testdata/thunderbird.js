// Functions for the scripts that a test runs in Thunderbird's main window and others.
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");

// until waits for a function to return something that counts as true, and returns it.
const until = async (f, what) => {
  for (let i = 0; i < 800; i++) {
    const v = f();
    if (v) {
      return v;
    }
    await new Promise(r => setTimeout(r, 100));
  }
  throw new Error("waited in vain for " + what);
};

// place is the middle of an element, which may be in a frame of a frame, in this window.
const place = el => {
  const r = el.getBoundingClientRect();
  let x = r.left + r.width / 2, y = r.top + r.height / 2;
  for (let w = el.ownerDocument.defaultView; w !== window; w = w.parent) {
    const f = w.browsingContext.embedderElement.getBoundingClientRect();
    x += f.left;
    y += f.top;
  }
  return [Math.round(x), Math.round(y)];
};

// still waits for an element that keeps its place, and returns that.
const still = async (f, what) => {
  let before = "";
  return until(() => {
    const el = f(), at = el && place(el), now = String(at);
    const same = at && now == before;
    before = now;
    return same && document.readyState == "complete" && at;
  }, what);
};

const pane = () => document.getElementById("tabmail").currentAbout3Pane;
const root = () => MailServices.accounts.defaultAccount.incomingServer.rootFolder;

// folder finds a folder by its name.
const folder = (name, under = root()) => {
  for (const f of under.subFolders) {
    const g = f.name == name ? f : folder(name, f);
    if (g) {
      return g;
    }
  }
  return null;
};

// headers are the messages of the list that is shown.
const headers = () => {
  const view = pane().gDBView, out = [];
  for (let i = 0; view && i < view.rowCount; i++) {
    out.push(view.getMsgHdrAt(i));
  }
  return out;
};
const subjects = () => headers().map(h => h.mime2DecodedSubject);
const header = subject => headers().find(h => h.mime2DecodedSubject == subject);

// row is the row of the list with a subject.
const row = subject => {
  const i = subjects().indexOf(subject);
  return i < 0 ? null : pane().threadTree.getRowAtIndex(i);
};

// shown is what the reading pane has, or null while it has another message.
const shown = subject => {
  const about = pane().messageBrowser.contentWindow;
  if (about.gMessage?.mime2DecodedSubject != subject) {
    return null;
  }
  const d = about.getMessagePaneBrowser().contentDocument;
  return d?.readyState == "complete" && d.body?.textContent.trim() ? d : null;
};

// folderRow is the name of a folder in the tree of folders.
const folderRow = name => [...pane().document.querySelectorAll("#folderTree li")]
  .find(li => li.uri == folder(name)?.URI)?.querySelector(".name");
