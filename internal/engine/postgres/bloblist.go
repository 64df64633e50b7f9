package postgres

import (
	"bytes"
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

const listRows = 1000 // that one statement reads

var (
	stBlobList  = &statement{"b_list", `SELECT name, at, size, ''::bytea FROM blobs WHERE name >= $1::bytea ORDER BY name LIMIT $2::bigint`}
	stBlobNeeds = &statement{"b_needs", `SELECT name, at, size, needs FROM blobs WHERE name >= $1::bytea ORDER BY name LIMIT $2::bigint`}
)

// listed is a blob in a list.
type listed struct {
	name  mail.BlobRef
	at    int64
	size  int64
	needs []byte
}

// List yields every blob in order of name.
func (b *blobs) List(ctx context.Context, fn func(name mail.BlobRef, at time.Time, size int64) bool) error {
	return b.list(ctx, stBlobList, func(l *listed) (bool, error) {
		return fn(l.name, time.UnixMilli(l.at), l.size), nil
	})
}

// Needs yields the blobs that need others, in order of name.
func (b *blobs) Needs(ctx context.Context, fn func(name mail.BlobRef, at time.Time, needs []mail.BlobRef) bool) error {
	return b.list(ctx, stBlobNeeds, func(l *listed) (bool, error) {
		if len(l.needs) == 0 {
			return true, nil
		}
		if len(l.needs)%len(l.name) != 0 {
			return false, fault.New(fault.Corrupt, "the row of a stored blob is damaged")
		}
		var needs []mail.BlobRef
		for rest := l.needs; len(rest) > 0; rest = rest[len(l.name):] {
			needs = append(needs, mail.BlobRef(rest[:len(l.name)]))
		}
		return fn(l.name, time.UnixMilli(l.at), needs), nil
	})
}

// list merges the lists of all groups. A blob that two nodes put at the same time, of which one
// did not know of a new group yet, is in two; it is yielded once.
func (b *blobs) list(ctx context.Context, st *statement, fn func(*listed) (bool, error)) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.gate.leave()
	if err := b.reload(ctx); err != nil {
		return err
	}
	var pages []*page
	for _, s := range b.shelves() {
		pages = append(pages, &page{shelf: s, st: st, more: true})
	}
	for {
		var next listed
		var found bool
		for _, p := range pages {
			l, ok, err := p.head(ctx)
			if err != nil {
				return err
			}
			switch c := bytes.Compare(l.name[:], next.name[:]); {
			case !ok:
			case !found || c < 0:
				next, found = l, true
			case c == 0:
				next.at = max(next.at, l.at)
				next.needs = append(next.needs[:len(next.needs):len(next.needs)], l.needs...)
			}
		}
		if !found {
			return nil
		}
		if more, err := fn(&next); err != nil || !more {
			return err
		}
		for _, p := range pages {
			if len(p.rows) > 0 && p.rows[0].name == next.name {
				p.rows = p.rows[1:]
			}
		}
	}
}

// page is a part of the list of one group.
type page struct {
	shelf shelf
	st    *statement
	rows  []listed
	from  []byte
	more  bool
}

func (p *page) head(ctx context.Context) (listed, bool, error) {
	if len(p.rows) == 0 && p.more {
		if err := p.turn(ctx); err != nil {
			return listed{}, false, err
		}
	}
	if len(p.rows) == 0 {
		return listed{}, false, nil
	}
	return p.rows[0], true, nil
}

// turn reads the next rows.
func (p *page) turn(ctx context.Context) error {
	var rows []listed
	err := p.shelf.ask(ctx, func(v [][]byte) error {
		if v == nil {
			rows = nil
			return nil
		}
		if len(v[0]) != len(mail.BlobRef{}) {
			return fault.New(fault.Corrupt, "the name of a stored blob is damaged")
		}
		rows = append(rows, listed{mail.BlobRef(v[0]), number(v[1]), number(v[2]), bytes.Clone(v[3])})
		return nil
	}, p.st, notNil(p.from), int64(listRows))
	if err != nil {
		return err
	}
	p.rows, p.more = rows, len(rows) == listRows
	if len(rows) > 0 {
		p.from = append(rows[len(rows)-1].name[:], 0)
	}
	return nil
}
