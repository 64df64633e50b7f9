package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The last run is known on the machine that it ran on, in its own data folder: a copy of
// either names a run that may live.
func TestLastRunIsOfThisPlace(t *testing.T) {
	if bootID() == "" {
		t.Skip("this system does not tell when it started: nothing is believed")
	}
	name := filepath.Join(t.TempDir(), "node.run")
	is := func(name, boot, want string) {
		t.Helper()
		if run, err := lastRun(name, boot); err != nil || string(run) != want {
			t.Errorf("%q %v, not %q", run, err, want)
		}
	}
	is(name, "boot", "")
	for _, run := range []string{"abcdefgh", "ABCDEFGH"} {
		if err := writeRun(name, bootID(), []byte(run)); err != nil {
			t.Fatal(err)
		}
		is(name, bootID(), run)
	}
	is(name, "another machine, or since", "")
	is(name, "", "")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n, text := range map[string][]byte{"copy": text, "short": text[:5], "torn": text[:20], "old": text[:8]} {
		other := name + n
		if err := os.WriteFile(other, text, 0o600); err != nil {
			t.Fatal(err)
		}
		is(other, bootID(), "")
	}
}
