package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mboxOf writes an mbox file with so many messages.
func mboxOf(t *testing.T, path string, messages int) {
	t.Helper()
	var b bytes.Buffer
	for i := range messages {
		fmt.Fprintf(&b, "From a@example.net Thu Jan  1 00:00:00 2026\nFrom: %d@example.net\nSubject: number %d\nMessage-ID: <%d@example.net>\nDate: Thu, 1 Jan 2026 10:00:00 +0000\nStatus: RO\n\nText %d\n\n", i, i, i, i)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// imported runs the command and returns its lines.
func imported(t *testing.T, code int, args ...string) (lines []map[string]any) {
	t.Helper()
	got := command(t, "", append([]string{"import", "mbox", "--json"}, args...)...)
	if got.code != code {
		t.Fatalf("import %v: code %d, %s\n%s", args, got.code, got.err, got.out)
	}
	for text := range strings.Lines(got.out) {
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		lines = append(lines, l)
	}
	return lines
}

func lastOf(lines []map[string]any) map[string]any {
	if len(lines) == 0 {
		return nil
	}
	return lines[len(lines)-1]
}

// TestImport: a plan changes nothing; an import brings all once, with a server and without; the
// report's hash is that of its lines.
func TestImport(t *testing.T) {
	config := newConfig(t)
	must := func(args ...string) {
		t.Helper()
		if got := command(t, "", append(args, "--config", config)...); got.code != 0 {
			t.Fatalf("%v: %s", args, got.err)
		}
	}
	must("domain", "add", "a.example")
	must("account", "add", "carol@a.example")
	file := filepath.Join(t.TempDir(), "old mail.mbox")
	mboxOf(t, file, 30)
	to := []string{file, "--to", "carol@a.example", "--config", config}
	for range 2 {
		lines := imported(t, 0, append(to, "--plan")...)
		if last := lastOf(lines); len(lines) != 2 || last["event"] != "plan" || last["new"] != 30.0 || lines[0]["made"] != true || lines[0]["mailbox"] != "old mail" {
			t.Fatalf("the plan is %v", lines)
		}
	}
	report := filepath.Join(t.TempDir(), "report.json")
	for round, brought := range []float64{30, 0, 5} {
		if round == 1 {
			startHouse(t, config)
		} else if round == 2 {
			mboxOf(t, file, 35)
		}
		last := lastOf(imported(t, 0, append(to, "--report", report)...))
		if last["event"] != "done" || last["brought"] != brought || last["whole"] != true || last["different"] != 0.0 {
			t.Errorf("round %d ends with %v", round, last)
		}
		whole, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		cut := bytes.LastIndexByte(bytes.TrimSuffix(whole, []byte("\n")), '\n') + 1
		if sum := sha256.Sum256(whole[:cut]); last["sha256"] != hex.EncodeToString(sum[:]) || !bytes.Contains(whole, []byte(`"event":"proof"`)) {
			t.Errorf("the report's hash is not that of its lines:\n%s", whole)
		}
		if table, err := os.ReadFile(report + ".txt"); err != nil || !bytes.Contains(table, []byte("old mail")) {
			t.Errorf("%s %v", table, err)
		}
	}
	if last := lastOf(imported(t, 0, append(to, "--verify")...)); last["whole"] != true || last["here"] != 35.0 {
		t.Errorf("--verify ends with %v", last)
	}
	if got := command(t, "", "import", "sources", "carol@a.example", "--config", config); got.code != 0 || !strings.Contains(got.out, "old mail") {
		t.Errorf("%+v", got)
	}
	// What is forgotten comes again.
	lines := command(t, "", "import", "sources", "carol@a.example", "--json", "--config", config).out
	var b struct{ Source string }
	if err := json.Unmarshal([]byte(lines), &b); err != nil {
		t.Fatal(err)
	}
	must("import", "forget", "carol@a.example", b.Source)
	if last := lastOf(imported(t, 0, to...)); last["brought"] != 35.0 {
		t.Errorf("after forget it ends with %v", last)
	}
	must("verify")
}

// TestImportSaysWhatIsWrong: each mistake has a code and a sentence that helps.
func TestImportSaysWhatIsWrong(t *testing.T) {
	config := newConfig(t)
	for _, args := range [][]string{{"domain", "add", "a.example"}, {"account", "add", "carol@a.example", "--quota", "2KB"}} {
		if got := command(t, "", append(args, "--config", config)...); got.code != 0 {
			t.Fatal(got.err)
		}
	}
	file := filepath.Join(t.TempDir(), "m.mbox")
	mboxOf(t, file, 30)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"FILE", 2, "--to is missing"},
		{"FILE --to dave@a.example", 1, "martlet account add dave@a.example"},
		{"FILE --to carol@a.example --since yesterday", 2, "2026-03-01"},
		{"FILE --to carol@a.example --max-size big", 2, "25MB"},
		{"FILE --to carol@a.example --map x", 2, "THERE=HERE"},
		{"FILE --to carol@a.example --order oldest", 2, "auto, source or newest"},
		{"FILE --to carol@a.example --mailbox [", 2, "no pattern"},
		{"FILE --to carol@a.example --mailbox nothing", 1, "no mailbox to bring"},
		{"/nowhere --to carol@a.example", 1, "/nowhere"},
		{"FILE --to carol@a.example", 1, "could not be brought"}, // over quota
	} {
		args := strings.Fields(strings.ReplaceAll(c.args, "FILE", file))
		got := command(t, "", append([]string{"import", "mbox", "--config", config}, args...)...)
		if got.code != c.code || !strings.Contains(got.err, c.says) || strings.Count(got.err, "\nmartlet: ") > 40 {
			t.Errorf("%s: code %d, %s", c.args, got.code, got.err)
		}
	}
	// A file that is damaged is told, others come, and nobody says that all of these are here.
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "broken.mbox.gz"), []byte("\x1f\x8bXXXXXXXXXXXX"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, "", "import", "mbox", "--config", config, filepath.Dir(file), "--to", "carol@a.example")
	if got.code != 1 || !strings.Contains(got.out, "broken: it was not read to its end") && !strings.Contains(got.out, "broken.mbox.gz: it was not") || strings.Contains(got.err, "all others") {
		t.Errorf("code %d: %s\n%s", got.code, got.out, got.err)
	}
}

// TestPlanFitsTheTerminal: no line of a plan's table is wider than 80 columns.
func TestPlanFitsTheTerminal(t *testing.T) {
	config := newConfig(t)
	for _, args := range [][]string{{"domain", "add", "a.example"}, {"account", "add", "carol@a.example"}} {
		if got := command(t, "", append(args, "--config", config)...); got.code != 0 {
			t.Fatal(got.err)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"short", strings.Repeat("long ", 20), "Ünïcödé Ünïcödé Ünïcödé Ünïcödé", "50%"} {
		mboxOf(t, filepath.Join(dir, name), 3)
	}
	got := command(t, "", "import", "mbox", dir, "--to", "carol@a.example", "--plan", "--config", config)
	if got.code != 0 || strings.Count(got.out, "\n") < 6 {
		t.Fatalf("%+v", got)
	}
	for line := range strings.Lines(got.out) {
		if n := len([]rune(strings.TrimSpace(line))); n > 80 && strings.Contains(line, " 3 ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
