package promise

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTimes(t *testing.T) {
	t.Setenv("MARTLET_LONG", "")
	t.Setenv("MARTLET_R99", "")
	if n := Times(t, "R99", 5, 50); n != 5 {
		t.Errorf("short: %d trials", n)
	}
	t.Setenv("MARTLET_LONG", "1")
	if n := Times(t, "R99", 5, 50); n != 50 {
		t.Errorf("long: %d trials", n)
	}
	t.Setenv("MARTLET_R99", "7")
	if n := Times(t, "R99", 5, 50); n != 7 {
		t.Errorf("by name: %d trials", n)
	}
}

func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures")
	t.Setenv("MARTLET_FIGURES", path)
	Kept(t, "R99", "kills", 50, "lost", 0)
	Kept(t, "R99", "seeds", 3)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	var n Note
	if err := json.Unmarshal([]byte(lines[0]), &n); err != nil {
		t.Fatal(err)
	}
	if n.Promise != "R99" || n.Test != "TestKept" || len(n.Figures) != 2 || n.Figures[0].Name != "kills" || n.Figures[0].Value != 50.0 {
		t.Errorf("noted %+v", n)
	}
}
