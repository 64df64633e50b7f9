package receive

import (
	"fmt"
	"strings"
	"testing"
)

// A stranger's names cost a bounded number of questions, and what is too much of them goes.
func TestNamesOfResultsBounded(t *testing.T) {
	var words, names strings.Builder
	for i := range 35_000 {
		fmt.Fprintf(&words, "w%d ", i)
	}
	for i := range 900 {
		fmt.Fprintf(&names, "Authentication-Results: n%d.%sa\r\n", i, strings.Repeat("a.", 110))
	}
	for name, field := range map[string]string{
		"labels": "Authentication-Results: " + strings.Repeat("a.", 60_000) + "a; none\r\n",
		"words":  "Authentication-Results: " + words.String() + "\r\n",
		"names":  names.String(),
	} {
		w := newWorld(t)
		w.checked("x.test. A 192.0.2.1\n")
		parcel := w.parcel(field + "From: a@x.test\r\n\r\nbody\r\n")
		clean := w.cleaned(t.Context(), parcel)
		if n := int(parcel.Size() - clean.Size()); n == 0 {
			t.Errorf("%s: the field stays", name)
		}
	}
	w := newWorld(t)
	asked := 0
	for i := range 100 {
		w.isOurs(t.Context(), fmt.Sprintf("n%d.%sa", i, strings.Repeat("a.", 110)), &asked)
		w.isOurs(t.Context(), strings.Repeat("a.", 60_000)+"a", &asked)
	}
	if asked > maxQuestions+100 {
		t.Errorf("%d questions", asked)
	}
	if asked = 0; w.isOurs(t.Context(), strings.Repeat("a.", 110)+"a", &asked) || asked < 100 {
		t.Errorf("a long name of a stranger counts as ours, after %d questions", asked)
	}
}
