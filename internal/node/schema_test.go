package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// docs/schema.md has every family of keys, and the shard.
func TestSchemaIsWrittenDown(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "schema.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), fmt.Sprintf("\n| %d | `internal/node` |", Shard)) {
		t.Errorf("docs/schema.md does not have shard %d", Shard)
	}
	_, section, _ := strings.Cut(string(text), "\n## Shard of nodes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for family, what := range map[byte]string{famNode: "` name | **node**", famLease: "` name | **lease**", famFile: "` name | **file**", famView: "` | **view**"} {
		if row := "\n| `" + string(family) + what; !strings.Contains(section, row) {
			t.Errorf("docs/schema.md has no row%s", row)
		}
	}
	if n := strings.Count(section, "\n| `"); n != 4 {
		t.Errorf("docs/schema.md has %d rows of nodes, want 4", n)
	}
}
