package backup

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// everyKind is a world in which each kind of record that mail leads to is there: also one
// that lies in pieces.
func everyKind(t *testing.T) *world {
	w := populated(t, "a", "b")
	w.mixed(t, "a", 20, 0)
	w.mixed(t, "b", 20, 1)
	rng := rand.New(rand.NewPCG(3, 4))
	long, line := "X: y\r\n", make([]byte, 48)
	for range 3000 {
		for i := range line {
			line[i] = byte(rng.Uint32())
		}
		long += " " + base64.StdEncoding.EncodeToString(line) + "\r\n"
	}
	w.append(t, "b", "INBOX", long+"\r\nof a long header\r\n", 0)
	p, err := w.Store.Receive(ctx, strings.NewReader(letter(rng, "queued", 300_000)))
	w.must(t, err)
	_, err = w.queue.Enqueue(ctx, queue.Entry{Key: "k", Envelope: mail.Envelope{To: []mail.Recipient{{Address: mail.Address{Local: "x", Domain: "far.example"}}}}, Parcel: p})
	w.must(t, err)
	return w
}

// families returns the first key of each family of a shard that has a value.
func (w *world) families(t *testing.T, sh engine.Shard) (keys [][]byte) {
	t.Helper()
	w.must(t, w.Engine.View(ctx, sh, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(k, v []byte) bool {
			if len(v) > 0 && !bytes.ContainsRune([]byte("gz"), rune(k[0])) && (len(keys) == 0 || keys[len(keys)-1][0] != k[0]) {
				keys = append(keys, bytes.Clone(k))
			}
			return true
		})
	}))
	return keys
}

// hurt turns over a bit of a record.
func (w *world) hurt(t *testing.T, sh engine.Shard, key []byte) {
	t.Helper()
	w.must(t, w.Engine.Update(ctx, sh, func(wr engine.Writer) error {
		v, _, err := wr.Get(key)
		if err != nil {
			return err
		}
		v = bytes.Clone(v)
		v[len(v)/2] ^= 1
		return wr.Put(key, v)
	}))
}

// TestBackupTellsOfEveryDamagedRecord damages a record of each kind: the backup tells of it,
// and where, and that once.
func TestBackupTellsOfEveryDamagedRecord(t *testing.T) {
	w := everyKind(t)
	w.save(t, t.TempDir(), SaveOptions{}) // nothing is said of what is whole
	seen := ""
	for sh, where := range map[engine.Shard]string{
		store.DirectoryShard: "in the directory", store.QueueShard: "in the queue", store.RegistryShard: "in the list of accounts", w.shardOf(t, "b"): "in account ",
	} {
		for _, key := range w.families(t, sh) {
			if sh == store.QueueShard && key[0] == 'a' {
				continue // an alarm is a key; what it has beside that has no checksum
			}
			seen += string(key[0])
			w.hurt(t, sh, key)
			var problems told
			s, err := w.Save(ctx, t.TempDir(), SaveOptions{Problem: problems.add})
			if err != nil || s.Lost != 1 || len(problems) != 1 || !strings.Contains(problems[0], fmt.Sprintf("%x", key)) || !strings.Contains(problems[0], where) {
				t.Errorf("%s, %q: lost %d, %q, %v", where, key, s.Lost, problems, err)
			}
			w.hurt(t, sh, key)
		}
	}
	for _, family := range "abfhjlmnpqsty" {
		if !strings.ContainsRune(seen, family) {
			t.Errorf("there is no record %c among %s", family, seen)
		}
	}
}
