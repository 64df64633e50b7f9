package postgres

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

const (
	// orphanAge is how old an upload without a row must be to be removed, by the clock of
	// where it lies. A Put writes its row within half of that or not at all.
	orphanAge = 48 * time.Hour

	// More orphans than these, and than one of so many uploads, are no leavings of crashes:
	// the bucket is somebody else's too, or the database is older than it.
	orphansFew  = 1000
	orphansPart = 100

	clockKey = "clock/" // of objects that are put to see what time it is there
)

// Orphaned says what Orphans did.
type Orphaned struct {
	Uploads int // that were looked at
	Removed int // that were old and without a row
	Bytes   int64
	Parts   int // uploads that never got to be objects
}

var (
	stUploads   = &statement{"b_uploads", `SELECT upload FROM blobs WHERE name = ANY($1::bytea[])`}
	stPiecesOld = &statement{"b_pieces_old", `SELECT name, upload, octet_length(data)::bigint, at < ` + nowMS + ` - $3::bigint FROM pieces
		WHERE n = 0 AND (name, upload) > ($1::bytea, $2::text) ORDER BY name, upload LIMIT $4::bigint`}
)

// orphan is an upload without a row.
type orphan struct {
	name   mail.BlobRef
	upload string
	size   int64
}

// orphans is Engine.Orphans.
func (b *blobs) orphans(ctx context.Context) (done Orphaned, err error) {
	if err := b.begin(ctx); err != nil {
		return done, err
	}
	defer b.gate.leave()
	if err := b.reload(ctx); err != nil {
		return done, err
	}
	for _, s := range b.shelves() {
		if err := b.orphanPieces(ctx, s, &done); err != nil {
			return done, err
		}
	}
	if b.opt.Objects == nil {
		return done, nil
	}
	err = b.orphanObjects(ctx, &done)
	return done, err
}

// orphanObjects removes objects.
func (b *blobs) orphanObjects(ctx context.Context, done *Orphaned) error {
	now, err := b.storeTime(ctx)
	if err != nil {
		return err
	}
	before := now.Add(-orphanAge)
	if b.opt.without.orphanAge {
		before = now.Add(time.Hour)
	}
	l, err := b.leavings(ctx, before)
	if err != nil {
		return err
	}
	done.Uploads += l.seen
	if len(l.orphans) > max(orphansFew, l.seen/orphansPart) {
		return fault.Newf(fault.Denied, "%d of %d objects belong to no body: more than crashes leave. Either another system keeps its objects under the same prefix of the same bucket, or the database is older than they are; nothing was removed", len(l.orphans), l.seen)
	}
	if err := b.clearAway(ctx, l, done); err != nil {
		return err
	}
	if a, ok := b.opt.Objects.(interface {
		Abandon(context.Context, time.Time) (int, error)
	}); ok {
		done.Parts, err = a.Abandon(ctx, before)
	}
	return err
}

// leavings are old objects that nothing refers to.
type leavings struct {
	orphans []orphan
	clocks  []string // keys
	seen    int      // uploads there are, whether they are leavings or not
}

// leavings finds objects that were put before a time and are nobody's. It lists all of them,
// and asks for the rows of the old ones, a page at a time.
func (b *blobs) leavings(ctx context.Context, before time.Time) (l leavings, err error) {
	var page []orphan
	var failed error
	look := func() bool {
		var found []orphan
		found, failed = b.withoutRow(ctx, b.shelves(), page)
		l.orphans, page = append(l.orphans, found...), page[:0]
		return failed == nil
	}
	err = b.opt.Objects.List(ctx, "", func(key string, at time.Time, size int64) bool {
		name, upload, ok := parseKey(key)
		if !ok {
			if strings.HasPrefix(key, clockKey) && at.Before(before) {
				l.clocks = append(l.clocks, key)
			}
			return true
		}
		l.seen++
		if at.Before(before) {
			page = append(page, orphan{name, upload, size})
		}
		return ctx.Err() == nil && (len(page) < listRows || look())
	})
	if err == nil && failed == nil {
		look()
	}
	return l, cmp.Or(err, failed, ctx.Err())
}

// clearAway removes leavings.
func (b *blobs) clearAway(ctx context.Context, l leavings, done *Orphaned) error {
	for _, key := range l.clocks {
		if err := b.opt.Objects.Remove(ctx, key); err != nil {
			return err
		}
	}
	for _, o := range l.orphans {
		if err := b.opt.Objects.Remove(ctx, keyOf(o.name, o.upload)); err != nil {
			return err
		}
		done.Removed++
		done.Bytes += o.size
	}
	return nil
}

// storeTime asks the object store for its time, by an object that it then dates.
func (b *blobs) storeTime(ctx context.Context) (now time.Time, err error) {
	o, key := b.opt.Objects, clockKey+b.newUpload()
	if err := o.Put(ctx, key, 0, strings.NewReader("")); err != nil {
		return now, err
	}
	err = o.List(ctx, key, func(_ string, at time.Time, _ int64) bool {
		now = at
		return false
	})
	if err == nil && now.IsZero() {
		err = fault.New(fault.Unavailable, "the object store does not list what was just put there")
	}
	if gone := o.Remove(ctx, key); err == nil {
		err = gone
	}
	return now, err
}

// withoutRow returns those uploads that no row refers to.
func (b *blobs) withoutRow(ctx context.Context, shelves []shelf, all []orphan) (orphans []orphan, err error) {
	if len(all) == 0 {
		return nil, nil
	}
	names := make([][]byte, len(all))
	for i := range all {
		names[i] = all[i].name[:]
	}
	used := map[string]bool{}
	for _, s := range shelves {
		err := s.ask(ctx, func(row [][]byte) error {
			if row != nil {
				used[string(row[0])] = true
			}
			return nil
		}, stUploads, names)
		if err != nil {
			return nil, err
		}
	}
	for _, o := range all {
		if !used[o.upload] {
			orphans = append(orphans, o)
		}
	}
	return orphans, nil
}

// orphanPieces removes uploads in a database. Its first pieces are looked through in order.
func (b *blobs) orphanPieces(ctx context.Context, s shelf, done *Orphaned) error {
	var last orphan
	for {
		var page []orphan
		from, n := last, 0
		err := s.ask(ctx, func(row [][]byte) error {
			if n++; row == nil {
				page, n = nil, 0
				return nil
			}
			if len(row[0]) != len(last.name) {
				return fault.New(fault.Corrupt, "the name of a stored blob is damaged")
			}
			last = orphan{mail.BlobRef(row[0]), string(row[1]), number(row[2])}
			if row[3][0] != 0 {
				page = append(page, last)
			}
			return nil
		}, stPiecesOld, from.name[:], from.upload, orphanAge.Milliseconds(), int64(listRows))
		if err != nil {
			return err
		}
		done.Uploads += n
		orphans, err := b.withoutRow(ctx, []shelf{s}, page)
		for _, o := range orphans {
			if err == nil {
				err = pieces{s}.remove(ctx, o.name, o.upload)
				done.Removed++
				done.Bytes += o.size
			}
		}
		if err != nil || n < listRows {
			return err
		}
	}
}
