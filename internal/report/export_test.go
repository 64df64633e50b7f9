package report

import (
	"context"
	"fmt"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
)

// Owed tells of the reports that are being made.
func (b *Book) Owed(ctx context.Context) (string, error) {
	var out strings.Builder
	err := b.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		var places []place
		var list []owed
		err := r.Scan([]byte{famOwed}, []byte{famOwed + 1}, false, func(k, v []byte) bool {
			p, _, _ := parsePlace(k)
			o, _ := decodeOwed(v)
			places, list = append(places, p), append(list, o)
			return true
		})
		for i, p := range places {
			sum, rows := uint64(0), 0
			from := append(p.prefix(famCount), 0)
			_ = r.Scan(from, engine.After(from), false, func(_, v []byte) bool {
				n, _, _ := decodeCount(v)
				sum += n
				rows++
				return true
			})
			fmt.Fprintf(&out, "%s %s %s: %d in %d row", p.kind, p.day, p.domain, sum, rows)
			if rows != 1 {
				out.WriteString("s")
			}
			if list[i].Left > 0 {
				fmt.Fprintf(&out, ", %d left out", list[i].Left)
			}
			out.WriteString("\n")
		}
		return err
	})
	return out.String(), err
}

// Kept tells how many reports of others are kept.
func (b *Book) Kept(ctx context.Context) (n int) {
	_ = b.opt.Engine.View(ctx, Shard, func(r engine.Reader) error {
		return r.Scan([]byte{famReport}, []byte{famReport + 1}, false, func(_, _ []byte) bool { n++; return true })
	})
	return n
}
