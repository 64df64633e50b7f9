package doubt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// docs/schema.md has the shard, its family and its bounds.
func TestSchemaIsWrittenDown(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "schema.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, row, found := strings.Cut(string(text), fmt.Sprintf("\n| %d | `internal/doubt` |", Shard))
	row, _, _ = strings.Cut(row, "\n")
	for _, what := range []string{"key `" + string(rune(famDoubt)) + "` and", fmt.Sprintf("Kind %d:", recDoubt), fmt.Sprintf("after %d days", int(doubtFor.Hours()/24)), "at most 10,000"} {
		if !found || !strings.Contains(row, what) {
			t.Errorf("docs/schema.md has no row of the shard with %q", what)
		}
	}
}
