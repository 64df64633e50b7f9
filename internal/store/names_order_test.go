package store

import (
	"slices"
	"testing"
)

// INBOX comes first, and children come right after their parent, whatever else begins
// like it.
func TestCompareNames(t *testing.T) {
	want := []string{"INBOX", "INBOX/a", "INBOX/a/b", "INBOX/a b", "A", "A/z", "A/z/1", "A/z!", "A\u0002", "A ", "A!", "A-b", "B", "INBOXES", "INBOXES/x", "a", "ä"}
	for i, a := range want {
		for j, b := range want {
			if got := CompareNames(a, b); got != max(-1, min(1, i-j)) {
				t.Errorf("%q and %q: %d", a, b, got)
			}
		}
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, CompareNames)
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
