//go:build linux

package probe

import (
	"strings"
	"testing"
)

func text(n int) string { return strings.Repeat("a", n) }

// The probe tells a pass from a pass for each byte.
func TestGrows(t *testing.T) {
	sink := 0
	if g, ok := Grows(16<<10, text, func(in string) {
		for range 20 {
			sink += strings.Count(in, "ab") + len(strings.ToUpper(in))
		}
	}); !ok {
		t.Errorf("linear work grows by %+v", g)
	}
	g, ok := Grows(16<<10, text, func(in string) {
		for i := range in {
			sink += strings.Count(in[i:], "b")
		}
	})
	if ok {
		t.Errorf("quadratic work grows by %+v only (%d)", g, sink)
	}
}
