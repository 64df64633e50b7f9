package corpus

import (
	"bytes"
	"testing"
)

func TestCorpus(t *testing.T) {
	a, b := All(), All()
	if len(a) < 300 {
		t.Errorf("the corpus has %d messages, fewer than 300", len(a))
	}
	names := map[string]bool{}
	nul, big := 0, 0
	for i, m := range a {
		if !bytes.Equal(m.Data, b[i].Data) || m.Name != b[i].Name {
			t.Fatalf("%s is not the same twice", m.Name)
		}
		if names[m.Name] {
			t.Errorf("two messages are called %s", m.Name)
		}
		names[m.Name] = true
		if m.NUL() {
			nul++
		}
		if len(m.Data) > 24_000_000 {
			big++
		}
		l := m.Lines()
		if bytes.Count(l, []byte("\r")) != bytes.Count(l, []byte("\r\n")) || bytes.Count(l, []byte("\n")) != bytes.Count(l, []byte("\r\n")) {
			t.Errorf("%s has bare line ends left", m.Name)
		}
		if again := (Message{Data: l}).Lines(); !bytes.Equal(again, l) {
			t.Errorf("%s changes when its lines are put right twice", m.Name)
		}
	}
	if nul == 0 || big == 0 {
		t.Errorf("%d messages with NUL, %d of 25 MB", nul, big)
	}
	t.Logf("%d messages", len(a))
}
