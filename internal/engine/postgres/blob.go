package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A blob is a row, which is the truth: whether it exists, when it was last put, how large it
// is, what it needs and what its checksum is. The bytes of a small one are in the row; those of
// a large one are an upload: an object in the object store, or pieces in a table of the same
// database. Each upload has a name of its own (the blob's, and a random number), so that
// removing one can never hit a later one of the same blob. It is there before the row, and goes
// after it; what a crash leaves without a row is swept when it is old (Orphans).
//
// With several groups (databases) the row of a blob is in one of those that placesOf names.

// blobTables are the tables of blobs in each database.
var blobTables = []string{
	`CREATE TABLE IF NOT EXISTS blobs (name bytea PRIMARY KEY, at bigint NOT NULL, size bigint NOT NULL, sum bigint NOT NULL, place int NOT NULL, upload text NOT NULL, needs bytea NOT NULL, data bytea NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS pieces (name bytea, upload text, n int, at bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (name, upload, n))`,
}

// blobTuning may fail: it is PostgreSQL's own. Bodies come compressed.
var blobTuning = []string{
	`ALTER TABLE blobs ALTER COLUMN data SET STORAGE EXTERNAL`,
	`ALTER TABLE pieces ALTER COLUMN data SET STORAGE EXTERNAL`,
}

// shelf is a database as blobs use it. Both methods run one statement in a transaction of its
// own, and again whenever its outcome is in doubt, until the patience of ctx or of Open is at an
// end; so a statement must bear that. Parameters are int64, string, []byte, [][]byte, []int64 or
// nil. rows is called at the beginning of each run with nil, then with each row's values, which
// are valid during the call. After Close they fail with Closed.
type shelf interface {
	// ask runs a statement that changes nothing.
	ask(ctx context.Context, rows func(row [][]byte) error, st *statement, args ...any) error

	// change runs a statement whose changes, and all that it saw, are durable (on the replica
	// too, where there is a synchronous one) when it returns nil.
	change(ctx context.Context, rows func(row [][]byte) error, st *statement, args ...any) error
}

var (
	stBlobAge    = &statement{"b_age", `SELECT ` + nowMS + `, COALESCE($2::bigint, ` + nowMS + `), (SELECT at FROM blobs WHERE name = $1::bytea)`}
	stBlobYoung  = &statement{"b_young", `UPDATE blobs SET at = greatest(at, COALESCE($2::bigint, ` + nowMS + `)) WHERE name = $1::bytea RETURNING at`}
	stBlobDelete = &statement{"b_delete", `DELETE FROM blobs WHERE name = $1::bytea AND at < $2::bigint RETURNING place, upload`}
	stBlobSmall  = &statement{"b_small", `INSERT INTO blobs (name, at, size, sum, place, upload, needs, data)
		VALUES ($1::bytea, COALESCE($2::bigint, ` + nowMS + `), $3::bigint, $4::bigint, 0, '', $5::bytea, $6::bytea)
		ON CONFLICT (name) DO UPDATE SET at = excluded.at WHERE blobs.at <= excluded.at - 3600000`}
	stBlobLarge = &statement{"b_large", `INSERT INTO blobs (name, at, size, sum, place, upload, needs, data)
		SELECT $1::bytea, COALESCE($2::bigint, ` + nowMS + `), $3::bigint, $4::bigint, $5::bigint, $6::text, $7::bytea, ''::bytea WHERE ` + nowMS + ` < $8::bigint
		ON CONFLICT (name) DO UPDATE SET at = greatest(blobs.at, excluded.at) RETURNING upload`}
)

const (
	// Places of a blob's bytes.
	inRow    = 0
	inPieces = 1
	inStore  = 2

	mostInRow = 1 << 20 // bytes of a blob, whatever Over is: they are held in memory

	refreshMS = int64(time.Hour / time.Millisecond) // a blob younger than this is not written to become young

	// nowMS is the database's clock. By it a Put has putMS from its first statement to the row:
	// its upload is then far younger than what Orphans removes, however long it was stopped.
	nowMS = `(extract(epoch from now())*1000)::bigint`
	putMS = int64(24 * time.Hour / time.Millisecond)
)

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errNoBlob   = fault.New(fault.NotFound, "there is no such blob")
	errChecksum = fault.New(fault.Corrupt, "a stored blob fails its checksum")
	errNoStore  = fault.New(fault.Unavailable, "a stored blob is in an object store, and none is configured")
)

// blobs keeps blobs on the shelves of all groups.
type blobs struct {
	opt     *Options
	gate    *gate
	draw    func() int64                    // draws a number
	shelves func() []shelf                  // of all groups, in their order
	reload  func(ctx context.Context) error // looks whether there are more
}

func newBlobs(e *Engine) *blobs {
	return &blobs{opt: &e.opt, gate: &e.gate, draw: e.member(0).token, reload: e.loadGroups, shelves: func() (list []shelf) {
		for _, m := range e.all() {
			list = append(list, poolShelf{m.pool})
		}
		return list
	}}
}

// Blobs returns the blob store.
func (e *Engine) Blobs() engine.Blobs { return e.blobs }

// Orphans removes what Puts and Deletes that were cut short have left: bytes without a blob
// that are older than two days. It may run at any time beside anything. Fault Denied: there are
// so many of them that something else must be wrong; nothing was removed.
func (e *Engine) Orphans(ctx context.Context) (Orphaned, error) { return e.blobs.orphans(ctx) }

// begin begins a call, which ends by gate.leave.
func (b *blobs) begin(ctx context.Context) error {
	if err := b.gate.enter(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		b.gate.leave()
		return err
	}
	return nil
}

// clock is the time of a Put in milliseconds; nil is that of the database.
func (b *blobs) clock() any {
	if b.opt.Now == nil {
		return nil
	}
	return b.opt.Now().UnixMilli()
}

// newSum begins the checksum of a blob, which holds only under its own name.
func newSum(name mail.BlobRef) hash.Hash32 {
	h := crc32.New(castagnoli)
	h.Write(name[:])
	return h
}

var base = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newUpload draws a name for an upload.
func (b *blobs) newUpload() string {
	if b.opt.without.uploads {
		return "same"
	}
	r := binary.BigEndian.AppendUint64(nil, uint64(b.draw()))
	return base.EncodeToString(binary.BigEndian.AppendUint64(r, uint64(b.draw())))
}

// keyOf is the key of an upload in the object store. The first folder keeps folders small
// where they are ones of a disk.
func keyOf(name mail.BlobRef, upload string) string {
	s := name.String()
	return s[:2] + "/" + s + "-" + upload
}

// Put stores a blob. It costs one statement if the blob is small or there already, else two
// and those of the upload.
func (b *blobs) Put(ctx context.Context, name mail.BlobRef, size int64, r io.Reader, needs ...mail.BlobRef) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	defer b.gate.leave()
	if size < 0 {
		return fault.New(fault.TooLarge, "a blob's size is out of range")
	}
	w := &write{b: b, name: name, size: size}
	for i := range needs {
		w.needs = append(w.needs, needs[i][:]...)
	}
	shelves := b.shelves()
	places := placesOf(name, len(shelves))
	w.shelf = shelves[places[0]]
	for _, i := range places[1:] { // what was there before there were so many groups
		if there, _, err := b.touch(ctx, shelves[i], name); there || err != nil {
			return err
		}
	}
	if size <= min(b.opt.Over, mostInRow) {
		return w.small(ctx, r)
	}
	return w.large(ctx, r)
}

// touch makes a blob young that is there. since is the database's time.
func (b *blobs) touch(ctx context.Context, s shelf, name mail.BlobRef) (there bool, since int64, err error) {
	var at, now int64
	err = s.ask(ctx, func(row [][]byte) error {
		if there = row != nil && row[2] != nil; row != nil {
			since, now, at = number(row[0]), number(row[1]), number(row[2])
		}
		return nil
	}, stBlobAge, name[:], b.clock())
	if err != nil || !there || now-at < refreshMS || b.opt.without.young {
		return there, since, err
	}
	// Never back: who put it by a clock that is ahead relies on it too.
	err = s.change(ctx, func(row [][]byte) error {
		there = row != nil
		return nil
	}, stBlobYoung, name[:], b.clock())
	return there, since, err
}

// write is a Put under way.
type write struct {
	b     *blobs
	shelf shelf
	name  mail.BlobRef
	size  int64
	needs []byte
}

// small writes the bytes with the row. If they cannot be had, it does with the blob that may
// be there.
func (w *write) small(ctx context.Context, r io.Reader) error {
	data := make([]byte, w.size)
	if _, unread := io.ReadFull(r, data); unread != nil {
		there, _, err := w.b.touch(ctx, w.shelf, w.name)
		if there || err != nil {
			return err
		}
		return short(unread)
	}
	sum := newSum(w.name)
	sum.Write(data)
	return w.shelf.change(ctx, nil, stBlobSmall, w.name[:], w.b.clock(), w.size, int64(sum.Sum32()), notNil(w.needs), data)
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Wrap(fault.Invalid, "a blob is shorter than announced", err)
	}
	return err
}

// large uploads the bytes and writes the row. What comes between is an orphan.
func (w *write) large(ctx context.Context, r io.Reader) error {
	there, since, err := w.b.touch(ctx, w.shelf, w.name)
	if there || err != nil {
		return err
	}
	upload := w.b.newUpload()
	u, place := w.b.uploads(w.shelf), inPieces
	if w.b.opt.Objects != nil {
		place = inStore
	}
	src := &source{r, newSum(w.name)}
	if w.b.opt.without.rowFirst {
		data, err := io.ReadAll(src)
		if err := cmp.Or(err, w.row(ctx, u, place, upload, since, src.sum.Sum32())); err != nil {
			return err
		}
		return u.put(ctx, place, w.name, upload, w.size, bytes.NewReader(data))
	}
	if err := u.put(ctx, place, w.name, upload, w.size, src); err != nil {
		return err
	}
	return w.row(ctx, u, place, upload, since, src.sum.Sum32())
}

// source is what a Put reads, and its checksum.
type source struct {
	r   io.Reader
	sum hash.Hash32
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	return n, err
}

// row writes the row of an upload. Another Put may have been faster; then that one's upload
// stands, and our own goes.
func (w *write) row(ctx context.Context, u uploads, place int, upload string, since int64, sum uint32) error {
	var stands string
	err := w.shelf.change(ctx, func(row [][]byte) error {
		if stands = ""; row != nil {
			stands = string(row[0])
		}
		return nil
	}, stBlobLarge, w.name[:], w.b.clock(), w.size, int64(sum), int64(place), upload, notNil(w.needs), since+putMS)
	switch {
	case err != nil:
		return err // the row may be there: nothing is removed
	case stands == "":
		return fault.New(fault.Unavailable, "storing a body took more than a day")
	case stands != upload:
		u.discard(ctx, place, w.name, upload)
	}
	return nil
}

// Delete removes a blob if it was last put before the given time: the row, durably, and then
// the bytes.
func (b *blobs) Delete(ctx context.Context, name mail.BlobRef, before time.Time) (bool, error) {
	if err := b.begin(ctx); err != nil {
		return false, err
	}
	defer b.gate.leave()
	shelves := b.shelves()
	gone, left := false, false
	for _, i := range placesOf(name, len(shelves)) {
		deleted, young, err := b.delete(ctx, shelves[i], name, before)
		if err != nil {
			return false, err
		}
		gone, left = gone || deleted, left || young
	}
	return gone && !left, nil
}

func (b *blobs) delete(ctx context.Context, s shelf, name mail.BlobRef, before time.Time) (gone, left bool, err error) {
	var place int
	var upload string
	err = s.change(ctx, func(row [][]byte) error {
		if gone = row != nil; gone {
			place, upload = int(number(row[0])), string(row[1])
		}
		return nil
	}, stBlobDelete, name[:], before.UnixMilli())
	if err != nil {
		return false, false, err
	}
	if gone {
		b.uploads(s).discard(ctx, place, name, upload)
		return true, false, nil
	}
	if len(b.shelves()) > 1 {
		left, err = b.has(ctx, s, name)
	}
	return false, left, err
}

func (b *blobs) has(ctx context.Context, s shelf, name mail.BlobRef) (there bool, err error) {
	err = s.ask(ctx, func(row [][]byte) error {
		there = row != nil && row[2] != nil
		return nil
	}, stBlobAge, name[:], nil)
	return there, err
}

// uploads returns where the bytes of large blobs are whose rows are on the shelf.
func (b *blobs) uploads(s shelf) uploads { return uploads{b, pieces{s}} }

// uploads are the bytes of large blobs, by place.
type uploads struct {
	b      *blobs
	pieces pieces
}

func (u uploads) put(ctx context.Context, place int, name mail.BlobRef, upload string, size int64, r io.Reader) error {
	if place == inStore {
		return u.b.opt.Objects.Put(ctx, keyOf(name, upload), size, r)
	}
	return u.pieces.put(ctx, name, upload, size, r)
}

func (u uploads) open(ctx context.Context, place int, name mail.BlobRef, upload string, off, n int64) (io.ReadCloser, error) {
	switch {
	case place == inPieces:
		return u.pieces.open(ctx, name, upload, off, n), nil
	case place != inStore:
		return nil, fault.New(fault.Unsupported, "a blob was stored by a newer version")
	case u.b.opt.Objects == nil:
		return nil, errNoStore
	}
	return u.b.opt.Objects.Open(ctx, keyOf(name, upload), off, n)
}

// discard removes an upload that no row refers to any more. If it cannot, Orphans does.
func (u uploads) discard(ctx context.Context, place int, name mail.BlobRef, upload string) {
	var err error
	switch {
	case place == inPieces:
		err = u.pieces.remove(ctx, name, upload)
	case place == inStore && u.b.opt.Objects != nil:
		err = u.b.opt.Objects.Remove(ctx, keyOf(name, upload))
	}
	if err != nil {
		u.b.opt.Log.Info("the bytes of a blob that is gone stay for now", "key", keyOf(name, upload), "err", err)
	}
}

// parseKey is the reverse of keyOf.
func parseKey(key string) (name mail.BlobRef, upload string, ok bool) {
	folder, rest, _ := strings.Cut(key, "/")
	digits, upload, ok := strings.Cut(rest, "-")
	if !ok || len(digits) != 2*len(name) || !strings.HasPrefix(digits, folder) || len(folder) != 2 || upload == "" {
		return name, "", false
	}
	if !fromHex(name[:], digits) {
		return name, "", false
	}
	return name, upload, keyOf(name, upload) == key
}
