package doctor

import "testing"

// A list that gives no reason leaves none open, one that does is quoted.
func TestBlocklistReason(t *testing.T) {
	for text, want := range map[string]string{
		"": "203.0.113.25 is on the list bl.example, by which many refuse mail",
		"25.113.0.203.bl.example. TXT \"ask us\"": "203.0.113.25 is on the list bl.example, by which many refuse mail: ask us",
	} {
		w := newWorld(t)
		w.put("listed", "25.113.0.203.bl.example. A 127.0.0.4")
		w.put("reason", text)
		if l := w.examine(t)["blocklists"]; l.Why != want {
			t.Errorf("%q, want %q", l.Why, want)
		}
	}
}
