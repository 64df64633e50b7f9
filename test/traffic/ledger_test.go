package traffic

import "testing"

// Each kind of fault is noticed, and nothing else.
func TestLedgerNotices(t *testing.T) {
	in := func(box string) []spot { return []spot{{box, "1 7"}} }
	for _, c := range []struct {
		name               string
		told               fate
		found              []spot
		lost, dup, strange int
	}{
		{"as told", fate{1, 1, "1 7", []string{"INBOX"}}, in("INBOX"), 0, 0, 0},
		{"unknown and there", fate{most: 1}, in("INBOX"), 0, 0, 0},
		{"unknown and not there", fate{most: 1}, nil, 0, 0, 0},
		{"deleted", fate{}, nil, 0, 0, 0},
		{"lost", fate{least: 1, most: 1}, nil, 1, 0, 0},
		{"twice", fate{least: 1, most: 1}, append(in("INBOX"), in("Trash")...), 0, 1, 0},
		{"unknown and twice", fate{most: 1}, append(in("INBOX"), in("INBOX")...), 0, 1, 0},
		{"back from the dead", fate{}, in("INBOX"), 0, 0, 1},
		{"another UID", fate{1, 1, "1 8", nil}, in("INBOX"), 0, 0, 1},
		{"another mailbox", fate{1, 1, "", []string{"Trash"}}, in("INBOX"), 0, 0, 1},
	} {
		l := NewLedger()
		l.set("a", "alice", c.told)
		found := map[Delivery][]spot{}
		if c.found != nil {
			found[Delivery{"a", "alice"}] = c.found
		}
		if v := l.compare(found); v.Lost != c.lost || v.Dup != c.dup || v.Strange != c.strange || v.OK() != (c.lost+c.dup+c.strange == 0) {
			t.Errorf("%s: %v", c.name, v)
		}
	}
	if v := NewLedger().compare(map[Delivery][]spot{{"a", "alice"}: in("INBOX")}); v.Strange != 1 {
		t.Errorf("a message that was never sent: %v", v)
	}
}
