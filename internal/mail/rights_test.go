package mail

import "testing"

func TestRights(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "lrswipkxtea": "lrswipkxtecda", "c": "kxc", "d": "ted", "k": "kc", "e": "ed", "alr": "lra",
		"lrswida": "lrswiteda", "lrswikda": "lrswiktecda", "xdxd": "xtecd",
	} {
		r, wrong := ParseRights(in)
		if wrong >= 0 || r.String() != want {
			t.Errorf("%q: %q, want %q", in, r, want)
		}
	}
	for in, want := range map[string]int{"lrQ": 2, "0": 0, "l r": 1, "lrz": 2, "é": 0} {
		if _, wrong := ParseRights(in); wrong != want {
			t.Errorf("%q: %d is wrong, want %d", in, wrong, want)
		}
	}
	if AllRights != 1<<len(rightLetters)-1 {
		t.Errorf("%b", AllRights)
	}
}

func TestFlagRights(t *testing.T) {
	for in, want := range map[string]Flags{
		"lr": 0, "s": Seen, "t": Deleted, "w": Answered | Flagged | Draft, "swt": Seen | Deleted | Answered | Flagged | Draft, "ikxeap": 0,
	} {
		r, _ := ParseRights(in)
		if flags, keywords := r.FlagRights(); flags != want || keywords != r.Has(RightWrite) {
			t.Errorf("%s: %s %v", in, flags, keywords)
		}
	}
}
