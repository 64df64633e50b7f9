package peers

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// TestThunderbird works in the real program's windows by mouse and keyboard, on a
// display that only a buffer in memory shows. What it did is then read from the server
// by another client. With MARTLET_SCREENSHOTS=DIR it leaves DIR/thunderbird.png.
func TestThunderbird(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"thunderbird", "Xvfb"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not there: test/deps.sh could not install Debian's packages thunderbird and xvfb", name)
		}
	}
	s := start(t, martlet.Options{})
	s.need(t, "imaps", "submissions", "lmtp")
	for _, l := range post(s.account(t, "alice").Address) {
		deliverTo(t, s, "alice", l)
	}
	tb := newThunderbird(t, s)
	tb.start()
	tb.addAccount()
	tb.syncs()
	tb.shows()
	tb.flags()
	tb.files()
	tb.searches()
	tb.follows()
	tb.sends()
	tb.quit()
	tb.catchesUp()
}

// letter is a message of the kind people get.
type letter struct{ from, subject, text, html string }

func post(to string) [][]byte {
	var out [][]byte
	for i, l := range []letter{
		{"Ada Lovelace <ada@example.org>", "Notes on the engine", "It weaves algebraic patterns just as the loom weaves flowers and leaves.", ""},
		{"Grace Hopper <grace@example.org>", "A bug, taped into the log", "15:45, relay 70, panel F: first actual case of bug being found.", ""},
		{"Alan Turing <alan@example.org>", "Can machines think?", "I propose to consider the question.", ""},
		{"Emmy Noether <emmy@example.org>", "Symmetries", "To each of them belongs something that is kept.", ""},
		{"J\u00fcrgen M\u00fcller <juergen@example.org>", "Gr\u00fc\u00dfe aus K\u00f6ln", "Sch\u00f6ne Gr\u00fc\u00dfe!",
			"<h2>Sch\u00f6ne Gr\u00fc\u00dfe!</h2><p>The cathedral stands, the trains are late, and the <b>mail is on time</b>.</p>" +
				"<ul><li>Monday: the river</li><li>Tuesday: the museum</li><li>Wednesday: <i>home again</i></li></ul>"},
	} {
		date := time.Now().Add(time.Duration(i-8) * 20 * time.Minute).Format(time.RFC1123Z)
		from := l.from
		if name, addr, _ := strings.Cut(from, " <"); !ascii(name) {
			from = word(name) + " <" + addr
		}
		head := fmt.Sprintf("From: %s\r\nTo: Alice <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <letter-%d@peers.example>\r\nMIME-Version: 1.0\r\n",
			from, to, word(l.subject), date, i)
		part := func(kind, text string) string {
			return "Content-Type: text/" + kind + "; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64Of(text) + "\r\n"
		}
		body := part("plain", l.text)
		if l.html != "" {
			body = "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n" + body + "--b\r\n" + part("html", l.html) + "--b--\r\n"
		}
		out = append(out, []byte(head+body))
	}
	return out
}

func ascii(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 126 }) }

// word returns a header's text as RFC 2047 has it, if it must.
func word(s string) string {
	if ascii(s) {
		return s
	}
	return "=?utf-8?b?" + base64Of(s) + "?="
}

func deliverTo(t *testing.T, s *subject, name string, message []byte) {
	t.Helper()
	w := dialSMTP(t, s.addr("lmtp"), true)
	defer w.Close()
	if code, text := w.deliver("sender@example.org", s.account(t, name).Address, message); code != 250 {
		t.Fatalf("delivery: %s", text)
	}
}

// syncs: all messages are listed, the folders have their uses, and what arrives while
// nobody touches anything appears.
func (tb *thunderbird) syncs() {
	tb.t.Helper()
	tb.click(`folderRow("INBOX")`)
	want := []string{"A bug, taped into the log", "Can machines think?", "Gr\u00fc\u00dfe aus K\u00f6ln", "Notes on the engine", "Symmetries",
		"Welcome to Martlet"}
	var got []string
	tb.js(&got, `await until(() => subjects().length >= args[0], "the messages"); return subjects()`, len(want))
	if slices.Sort(got); !slices.Equal(got, want) {
		tb.t.Errorf("Thunderbird lists %q", got)
	}
	var uses []string
	tb.js(&uses, `await until(() => folder("Trash"), "the folders");
		const F = Ci.nsMsgFolderFlags;
		return [["Archive", F.Archive], ["Drafts", F.Drafts], ["Sent", F.SentMail], ["Junk", F.Junk], ["Trash", F.Trash]]
			.filter(([n, f]) => folder(n)?.getFlag(f)).map(([n]) => n)`)
	if len(uses) != 5 {
		tb.t.Errorf("Thunderbird knows the uses of %q only", uses)
	}
	deliverTo(tb.t, tb.s, "alice", note("thunderbird-idle", "while it idles"))
	tb.js(nil, `await until(() => header("note thunderbird-idle"), "what has just arrived")`)
}

// shows: a click on a message shows it and marks it as read.
func (tb *thunderbird) shows() {
	tb.t.Helper()
	var text string
	tb.click(`row("Gr\u00fc\u00dfe aus K\u00f6ln")`)
	tb.js(&text, `return (await until(() => shown(args[0]), "the message")).body.textContent`, "Gr\u00fc\u00dfe aus K\u00f6ln")
	if !strings.Contains(text, "The cathedral stands, the trains are late, and the mail is on time.") {
		tb.t.Errorf("the HTML part is shown as %q", text)
	}
	tb.expect("INBOX", "Gr\u00fc\u00dfe aus K\u00f6ln", `\Seen`)
	for _, subject := range []string{"Notes on the engine", "note thunderbird-idle"} {
		tb.click(fmt.Sprintf("row(%q)", subject))
		tb.js(&text, `return (await until(() => shown(args[0]), "the message")).body.textContent`, subject)
		if !strings.Contains(text, "weaves flowers") && !strings.Contains(text, "while it idles") {
			tb.t.Errorf("%s is shown as %q", subject, text)
		}
	}
}

// flags: the star, a tag, unread again.
func (tb *thunderbird) flags() {
	tb.t.Helper()
	tb.click(`row("Gr\u00fc\u00dfe aus K\u00f6ln")`)
	tb.js(nil, `await until(() => shown(args[0]), "the message")`, "Gr\u00fc\u00dfe aus K\u00f6ln")
	tb.press('s')
	tb.press('1')
	tb.expect("INBOX", "Gr\u00fc\u00dfe aus K\u00f6ln", `\Seen`, `\Flagged`, "$label1")
	tb.click(`row("Symmetries")?.querySelector(".button-star")`)
	tb.expect("INBOX", "Symmetries", `\Flagged`)
	tb.js(nil, `await until(() => row("Symmetries").dataset.properties.includes("flagged"), "the star")`)
	tb.keep("thunderbird.png")
	tb.click(`row("note thunderbird-idle")`)
	tb.js(nil, `await until(() => shown(args[0]), "the message")`, "note thunderbird-idle")
	tb.press('m')
	tb.expect("INBOX", "note thunderbird-idle")
}

// files: archive, delete, and a move into a folder made for it.
func (tb *thunderbird) files() {
	tb.t.Helper()
	tb.read("A bug, taped into the log")
	tb.press('a')
	// A server of X-GM-EXT-1 counts as Gmail: no folder below for each year.
	tb.expect("Archive", "A bug, taped into the log", `\Seen`)
	tb.read("Notes on the engine")
	tb.press(keyDelete)
	tb.expect("Trash", "Notes on the engine", `\Seen`)
	tb.js(nil, `root().createSubfolder(args[0], null); await until(() => folder(args[0]), "the new folder")`, "Gr\u00f6\u00dfe & Co")
	tb.read("Can machines think?")
	tb.js(nil, `pane().commandController.doCommand("cmd_moveMessage", folder(args[1]));
		await until(() => !row(args[0]), "it leaves")`, "Can machines think?", "Gr\u00f6\u00dfe & Co")
	tb.expect("Gr&APYA3w-e &- Co", "Can machines think?", `\Seen`)
	for _, subject := range []string{"A bug, taped into the log", "Notes on the engine", "Can machines think?"} {
		if _, there := tb.s.flags(tb.t, "alice", "INBOX")[subject]; there {
			tb.t.Errorf("%q is still in INBOX", subject)
		}
	}
}

// read shows a message and waits until the server knows that it was.
func (tb *thunderbird) read(subject string) {
	tb.t.Helper()
	tb.click(fmt.Sprintf("row(%q)", subject))
	tb.js(nil, `await until(() => shown(args[0]), "the message")`, subject)
	tb.expect("INBOX", subject, `\Seen`)
}

// searches: the dialogue for searching, on the server, in all folders below INBOX.
func (tb *thunderbird) searches() {
	tb.t.Helper()
	for i, c := range []struct {
		word string
		hits int
	}{{"gr\u00fc\u00dfe", 1}, {"note thunder", 1}, {"nothing has this", 0}} {
		tb.press(keyControl, keyShift, 'F')
		tb.window("SearchDialog.xhtml")
		tb.js(nil, `await until(() => document.readyState == "complete" && document.querySelector("#searchVal0 input"), "the dialogue")`)
		if i == 0 { // it is remembered
			tb.click(`document.getElementById("checkSearchOnline")`)
		}
		tb.click(`document.querySelector("#searchVal0 input")`)
		tb.write(c.word)
		tb.click(`document.getElementById("search-button")`)
		var hits int
		tb.js(&hits, `await until(() => document.getElementById("checkSearchOnline").checked, "search on the server");
			await until(() => document.getElementById("statusText").value.includes("match"), "an end of the search");
			const n = gDBView.rowCount;
			setTimeout(() => window.close(), 100);
			return n`)
		if hits != c.hits {
			tb.t.Errorf("a search for %q finds %d messages", c.word, hits)
		}
		tb.main()
	}
}

// follows: changes made by another client show without a touch.
func (tb *thunderbird) follows() {
	tb.t.Helper()
	w := dialIMAP(tb.t, tb.s, "alice")
	w.ok("SELECT INBOX")
	w.ok(`STORE 1 +FLAGS (\Flagged \Seen \Answered)`)
	tb.js(nil, `await until(() => header(args[0])?.isFlagged && header(args[0])?.isRead, "a flag set by another client")`, "Welcome to Martlet")
	w.ok(`STORE 1 -FLAGS (\Flagged)`)
	tb.js(nil, `await until(() => !header(args[0])?.isFlagged, "a flag taken away by another client")`, "Welcome to Martlet")
	w.ok("UID SEARCH SUBJECT symmetries")
	w.ok(`STORE %d +FLAGS (\Deleted)`, tb.number(w, "symmetries"))
	w.ok("EXPUNGE")
	tb.js(nil, `await until(() => !header(args[0]), "a message goes that another client deleted")`, "Symmetries")
	w.ok("LOGOUT")
}

// number returns the sequence number of the message with a subject.
func (tb *thunderbird) number(w *imapWire, subject string) (n int) {
	tb.t.Helper()
	for _, r := range w.ok("SEARCH SUBJECT %q", subject) {
		fmt.Sscanf(r.text, "* SEARCH %d", &n)
	}
	return n
}

// sends: a message to itself, through submission, with a copy in Sent.
func (tb *thunderbird) sends() {
	tb.t.Helper()
	tb.press(keyControl, 'n')
	tb.window("messengercompose.xhtml")
	tb.js(nil, `await until(() => document.readyState == "complete" && window.gMsgCompose?.editor, "the editor")`)
	tb.click(`document.getElementById("toAddrInput")`)
	tb.write(tb.s.account(tb.t, "alice").Address)
	tb.press(keyEnter)
	tb.click(`document.getElementById("msgSubject")`)
	tb.write("Sent by Thunderbird \u00e4\u00f6\u00fc")
	tb.press(keyTab)
	tb.write("Over submission.")
	tb.press(keyEnter)
	tb.write(".")
	tb.click(`document.getElementById("button-send")`)
	tb.main()
	tb.expect("INBOX", "Sent by Thunderbird \u00e4\u00f6\u00fc")
	tb.expect("Sent", "Sent by Thunderbird \u00e4\u00f6\u00fc", `\Seen`)
	tb.js(nil, `await until(() => header(args[0]), "what it sent itself")`, "Sent by Thunderbird \u00e4\u00f6\u00fc")
}

// catchesUp: started again after another client changed everything, it shows what the
// server has.
func (tb *thunderbird) catchesUp() {
	tb.t.Helper()
	w := dialIMAP(tb.t, tb.s, "alice")
	w.ok("SELECT INBOX")
	w.ok(`STORE %d -FLAGS (\Flagged \Seen $label1)`, tb.number(w, "aus"))
	w.ok(`STORE %d +FLAGS (\Flagged)`, tb.number(w, "Sent by"))
	w.ok(`STORE %d +FLAGS (\Deleted)`, tb.number(w, "note thunderbird-idle"))
	w.ok("EXPUNGE")
	w.ok("LOGOUT")
	deliverTo(tb.t, tb.s, "alice", note("thunderbird-later", "while it was away"))
	tb.start()
	tb.click(`folderRow("INBOX")`)
	want := map[string]string{}
	for subject, flags := range tb.s.flags(tb.t, "alice", "INBOX") {
		want[subject] = fmt.Sprintf("read %v, flagged %v, tags %s", slices.Contains(flags, `\Seen`), slices.Contains(flags, `\Flagged`),
			strings.Join(slices.DeleteFunc(flags, func(f string) bool { return strings.HasPrefix(f, `\`) }), " "))
	}
	var ok bool
	tb.js(&ok, `const state = () => JSON.stringify(Object.fromEntries(headers().map(h => [h.mime2DecodedSubject,
			"read " + h.isRead + ", flagged " + h.isFlagged + ", tags " + h.getStringProperty("keywords")]).sort()));
		const want = JSON.stringify(Object.fromEntries(Object.entries(args[0]).sort()));
		try {
			return await until(() => state() == want, "the server's state");
		} catch (e) {
			throw new Error("it shows " + state() + ", and the server has " + want);
		}`, want)
	tb.quit()
}

func (tb *thunderbird) expect(box, subject string, flags ...string) {
	tb.t.Helper()
	tb.s.expect(tb.t, "alice", box, subject, flags...)
}
