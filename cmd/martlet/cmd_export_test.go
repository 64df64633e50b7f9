package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExportCommand is what a person may get wrong, and what is printed when all is right.
func TestExportCommand(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "martlet.toml")
	if err := os.WriteFile(config, []byte("hostname = \"mail.example.org\"\ndata = \""+filepath.Join(dir, "data")+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"domain add example.org", "account add carol@example.org", "account add dave@example.org"} {
		if got := command(t, "", append(strings.Fields(line), "--config", config)...); got.code != 0 {
			t.Fatal(line, got)
		}
	}
	out, full := filepath.Join(dir, "out"), filepath.Join(dir, "full")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(full, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"export", 2, "needs one of mbox, maildir, eml, imap"},
		{"export mbx", 2, `did you mean "mbox"?`},
		{"export mbox", 2, "missing --out DIR"},
		{"export mbox --out " + out, 2, "missing --account ADDRESS"},
		{"export mbox --account carol --out " + out, 1, "name@domain"},
		{"export mbox --account nobody@example.org --out " + out, 1, "no account"},
		{"export mbox --account carol@example.org --quoting x --out " + out, 2, "none of rd, o, cl, cl2"},
		{"export mbox --account carol@example.org --since never --out " + out, 2, "no time"},
		{"export eml --account carol@example.org --mailbox None --out " + out, 1, "no mailbox of such a name"},
		{"export eml --account carol@example.org --out " + full, 1, "not empty"},
		{"export imap --account carol@example.org --user x", 2, "missing --to"},
		{"export imap --account carol@example.org --user x --to http://example.net", 2, "is not of the form"},
		{"export maildir --account carol@example.org --out " + filepath.Join(dir, "maildir"), 0, ""},
		{"export mbox --account carol@example.org --out " + filepath.Join(dir, "maildir"), 1, "holds an export of carol@example.org as maildir"},
		{"export maildir --account dave@example.org --out " + filepath.Join(dir, "maildir"), 1, "name another one"},
	} {
		got := command(t, "", append(strings.Fields(c.args), "--config", config)...)
		if got.code != c.code || !strings.Contains(got.err, c.says) {
			t.Errorf("martlet %s: code %d, want %d: %q wants %q", c.args, got.code, c.code, got.err, c.says)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a folder was made for nothing")
	}
	got := command(t, "", "export", "eml", "--account", "carol@example.org", "--out", filepath.Join(dir, "eml"), "--json", "--config", config)
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	var last struct {
		Event string
		Whole bool
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || got.code != 0 || last.Event != "done" || !last.Whole || len(lines) != 7 {
		t.Errorf("%d %v %s", got.code, err, got.out)
	}
}
