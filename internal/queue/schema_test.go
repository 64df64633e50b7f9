package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
)

// docs/schema.md has every family of keys of the queue, and the shards of its parts.
func TestSchemaIsWrittenDown(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "schema.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := fmt.Sprintf("\n| 2^16 + n | `internal/queue` | part n of the queue, of the node with number n, from 1 to %d; that of node 0 is shard %d |", maxPart, PartShard(0))
	if PartShard(5) != 1<<16+5 || !strings.Contains(string(text), row) {
		t.Errorf("docs/schema.md does not have the parts of the queue:%s", row)
	}
	for n := range uint64(maxPart + 1) {
		if got, ok := PartOf(PartShard(n)); !ok || got != n {
			t.Fatalf("part %d lies in the shard of %d", n, got)
		}
	}
	for _, sh := range []engine.Shard{0, 2, 7, 1 << 16, 1<<16 + maxPart + 1, 1 << 17, 1 << 32} {
		if n, ok := PartOf(sh); ok {
			t.Errorf("shard %d is said to have part %d", sh, n)
		}
	}
	_, section, _ := strings.Cut(string(text), "\n## Queue shard\n")
	section, _, _ = strings.Cut(section, "\n## ")
	families := []byte{famMessage, famPiece, famRecipient, famGroup, famWaiting, famFlow, famTurn, famLane, famDue, famAlarm, famKey, famCount, famLook, famSent, famBounced, famOwner}
	for _, family := range families {
		if !strings.Contains(section, fmt.Sprintf("\n| `%c`", family)) {
			t.Errorf("docs/schema.md has no row for the family %c of the queue", family)
		}
	}
	if n := strings.Count(section, "\n| `"); n != len(families) {
		t.Errorf("docs/schema.md has %d rows for %d families of the queue", n, len(families))
	}
}
