// Package ledger is a visitor of sources for tests that read one more than once: it wants what
// it does not have yet, and forgets nothing. It puts nothing into an account.
package ledger

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/martlet-mail/martlet/internal/move"
)

// Ledger keeps what it is told.
type Ledger struct {
	Have    map[string][sha256.Size]byte // hashes of messages, by key
	Items   map[string]move.Item         // as they were told of last
	Order   []string                     // keys, as they came
	Missing []string                     // keys of what is gone
	Skips   []string
	Told    int // items, each time
	Since   []byte
	Exact   bool // sizes must be what came
}

// New returns an empty one.
func New() *Ledger {
	return &Ledger{Have: map[string][sha256.Size]byte{}, Items: map[string]move.Item{}}
}

func (l *Ledger) Want(_ context.Context, items []move.Item) ([]bool, error) {
	out := make([]bool, len(items))
	for i, it := range items {
		_, have := l.Have[it.Key]
		out[i] = !have
		it.Keywords, it.Places = slices.Clone(it.Keywords), slices.Clone(it.Places)
		l.Items[it.Key] = it
	}
	l.Told += len(items)
	return out, nil
}

func (l *Ledger) Put(_ context.Context, it move.Item, r io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return err
	}
	if _, twice := l.Have[it.Key]; twice {
		return fmt.Errorf("%s is put twice", it.Key)
	}
	if l.Exact && it.Size >= 0 && n != it.Size {
		return fmt.Errorf("%s has %d bytes, said were %d", it.Key, n, it.Size)
	}
	l.Have[it.Key] = [sha256.Size]byte(h.Sum(nil))
	l.Order = append(l.Order, it.Key)
	return nil
}

func (l *Ledger) Skip(_ context.Context, it move.Item, why error) error {
	l.Skips = append(l.Skips, it.Key+": "+why.Error())
	return nil
}

func (l *Ledger) Gone(_ context.Context, keys []string) error {
	l.Missing = append(l.Missing, keys...)
	return nil
}

func (l *Ledger) State(_ context.Context, s []byte) error {
	if len(s) > 4096 {
		return fmt.Errorf("a state of %d bytes", len(s))
	}
	l.Since = s
	return nil
}
