package main

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// outcome is what a mail program comes to.
type outcome struct {
	Client string
	OK     bool
	Tries  []struct{ Mechanism, Asked, Status, Why string }
}

// Every mail program sets itself up for a domain of ours, by each way that it asks, with names,
// certificates and ports as they are on the Internet; and it is seen when one of them is lost.
func TestServeCheck(t *testing.T) {
	w := town(t)
	check := func() (all []outcome, code int) {
		out, err := w.Client.Command(w.Martlet.Binary, "discover", "martlet.example", "--serve-check", "--json").Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			var o outcome
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			all = append(all, o)
		}
		return all, code
	}
	all, code := check()
	if len(all) != 8 || code != 0 {
		t.Errorf("%d programs, code %d", len(all), code)
	}
	for _, o := range all {
		for _, try := range o.Tries {
			// The domain's own name leads nowhere, and that of its mail host is that of nobody's domain.
			want := map[bool]string{true: "fail", false: "pass"}[try.Mechanism == "well"]
			if try.Status != want {
				t.Errorf("%s %s of %s: %s %s", o.Client, try.Mechanism, try.Asked, try.Status, try.Why)
			}
		}
	}
	if _, err := w.Client.Command(w.Martlet.Binary, "discover", "gone.example", "--serve-check").Output(); err == nil {
		t.Error("a domain that is not there passes")
	}
}
