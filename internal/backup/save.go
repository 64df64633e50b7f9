package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/store"
)

// SaveOptions are how a backup is made.
type SaveOptions struct {
	Full     bool           // trust nothing that is there already
	Progress func(Progress) // may be nil
	Problem  func(Problem)  // may be nil
}

// Saved is what a backup has done.
type Saved struct {
	Snapshot
	Unchanged int           // accounts that had not changed since the snapshot before
	Objects   int64         // that were new
	Took      time.Duration // in all
}

// Save adds a snapshot of the server to the repository in dir, which it makes if there is
// none. What was acknowledged before it began is in it. When it returns nil, it is durable;
// whenever it is cut short, earlier snapshots are as they were and the next Save goes on
// with what this one has stored. Faults: Busy if somebody else writes there.
func (h House) Save(ctx context.Context, dir string, opt SaveOptions) (Saved, error) {
	r, err := open(h.Disk, dir, toAdd)
	if err != nil {
		return Saved{}, err
	}
	defer r.close()
	release, err := h.Store.HoldBodies(ctx)
	if err != nil {
		return Saved{}, err
	}
	defer release()
	crossed, stop, err := h.Store.NoteCrossings(ctx)
	if err != nil {
		return Saved{}, err
	}
	defer stop()
	s := saver{
		house: h, repo: r, opt: opt, began: h.Now(), wanted: map[name][]name{}, sound: map[object]bool{},
		crossed: crossed, read: map[mail.AccountID]reading{}, damaged: map[string]bool{},
	}
	defer s.abandon()
	return s.run(ctx)
}

// saver makes one snapshot.
type saver struct {
	house  House
	repo   *repository
	opt    SaveOptions
	began  time.Time
	snap   snapshot
	before map[engine.Shard]snapShard // of the snapshot before, as far as it is trusted
	pack   *packWriter
	wanted map[name][]name // bodies to store, and what they need
	sound  map[object]bool // of a full one: what has been read and is as it should be
	chunk  chunk
	raw    []byte
	zipped []byte

	parts   []engine.Shard                   // of the queue, but for the first
	crossed func() ([]store.Crossing, error) // since the Save began
	read    map[mail.AccountID]reading

	spoilt  []spoilt        // records of the shard that is being read
	damaged map[string]bool // records that were told of, by shard and key

	done Saved
}

func (s *saver) run(ctx context.Context) (Saved, error) {
	s.snap.head = snapHead{snapFormat, s.house.Version, s.moment(), s.opt.Full, ourSchema()}
	if err := s.parent(); err != nil {
		return Saved{}, err
	}
	// The queue first: what goes from it into an account meanwhile is in both, and the
	// account knows that it has it. Bodies after all records: they are held.
	if err := s.queue(ctx); err != nil {
		return Saved{}, err
	}
	if err := s.accounts(ctx); err != nil {
		return Saved{}, err
	}
	for _, sh := range [...]engine.Shard{linksShard, nodesShard} {
		if err := s.ifAny(ctx, sh); err != nil {
			return Saved{}, err
		}
	}
	if err := s.bodies(ctx); err != nil {
		return Saved{}, err
	}
	return s.finish()
}

// moment is when the snapshot is of, to the accuracy of its name, and after all others.
func (s *saver) moment() time.Time { return s.began.UTC().Truncate(time.Millisecond) }

// aheadTold is how far ahead a snapshot must be dated to be told of.
const aheadTold = time.Minute

// parent finds the snapshot before, whose lists of chunks may be used again.
func (s *saver) parent() error {
	all, _, err := s.repo.snapshots()
	if err != nil || len(all) == 0 {
		return err
	}
	last := all[len(all)-1]
	if !last.head.Time.Before(s.snap.head.Time) {
		s.snap.head.Time = last.head.Time.Add(time.Millisecond) // the clock went back
		if ahead := last.head.Time.Sub(s.began); ahead > aheadTold {
			s.problem(Problem{"", "the newest snapshot is dated " + last.head.Time.Format(time.RFC3339) + ", in the time to come; until then new ones are dated right after it. If the clock was wrong then, and is right now, begin a new folder for backups"})
		}
	}
	if s.opt.Full || !s.repo.whole || last.end.Line != s.house.line() || last.head.Schema != ourSchema() || last.info().Lost > 0 {
		return nil
	}
	s.before = map[engine.Shard]snapShard{}
	for _, sh := range last.shards {
		s.before[sh.Shard] = sh
	}
	return nil
}

func (h House) line() string { return h.Directory.Lineage() }

func (s *saver) sign(ctx context.Context, sh engine.Shard) (sign string, err error) {
	err = s.house.Engine.View(ctx, sh, func(r engine.Reader) error {
		b, err := store.Sign(r.Scan)
		sign = hex.EncodeToString(b[:])
		return err
	})
	return sign, err
}

// form is what must be known of the records of a shard. A nil function is one that says no.
type form struct {
	skip    func(key []byte) bool // it need not be kept
	bodyOf  func(key, value []byte) (body name, message bool, err error)
	sealing func(key, value []byte) record.Sealing
	also    func(engine.Reader) error // reads the same moment
}

var (
	plain    = form{}
	ofQueue  = form{bodyOf: queue.BodyOf, sealing: queue.Sealing}
	ofPeople = form{skip: store.Derived, bodyOf: store.BodyOf, sealing: store.Sealing}
)

// shard saves one shard as of now.
func (s *saver) shard(ctx context.Context, sh engine.Shard, f form) error {
	var t *tree
	out := snapShard{Shard: sh}
	s.spoilt = nil
	err := s.house.Engine.View(ctx, sh, func(r engine.Reader) (err error) {
		if _, ok := out.account(); ok {
			b, err := store.Sign(r.Scan)
			if err != nil {
				return err
			}
			out.Sign = hex.EncodeToString(b[:])
		}
		if t, err = s.cut(r, f); err == nil && f.also != nil {
			err = f.also(r)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.tellSpoilt(ctx, sh)
	n, err := s.putZipped(kindTree, t.encode())
	if err != nil {
		return err
	}
	out.Tree = n.String()
	out.Records, out.Messages, out.Bytes = t.records, t.messages, t.bytes
	s.snap.shards = append(s.snap.shards, out)
	return nil
}

// linksShard is where the rules of links are, and what signs in for them, sealed by a key of
// the directory (internal/move/link).
const linksShard engine.Shard = 6

// nodesShard is where nodes that share a store know each other: a part of the queue belongs to
// each number that they ever had (internal/node).
const nodesShard engine.Shard = 7

// queue saves all parts of the queue.
func (s *saver) queue(ctx context.Context) error {
	if err := s.shard(ctx, store.QueueShard, ofQueue); err != nil {
		return err
	}
	list, err := s.house.Engine.Shards(ctx)
	if err != nil {
		return err
	}
	for _, sh := range list {
		if _, ok := queue.PartOf(sh); ok && sh != store.QueueShard {
			s.parts = append(s.parts, sh)
			if err := s.shard(ctx, sh, ofQueue); err != nil {
				return err
			}
		}
	}
	return nil
}

// ifAny saves a shard, if it has records: versions that do not know it can read a snapshot
// without it.
func (s *saver) ifAny(ctx context.Context, shard engine.Shard) error {
	some := false
	err := s.house.Engine.View(ctx, shard, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(_, _ []byte) bool { some = true; return false })
	})
	if err != nil || !some {
		return err
	}
	if err := s.shard(ctx, shard, plain); err != nil {
		return err
	}
	last := len(s.snap.shards) - 1
	at, _ := slices.BinarySearchFunc(s.snap.shards[:last], shard, func(sh snapShard, n engine.Shard) int { return cmp.Compare(sh.Shard, n) })
	s.snap.shards = slices.Insert(s.snap.shards[:last], at, s.snap.shards[last])
	return nil
}

// cut reads a shard and stores its chunks.
func (s *saver) cut(r engine.Reader, form form) (*tree, error) {
	t := &tree{}
	c := &s.chunk
	c.reset()
	var bad error
	seals := record.Checker{Sealing: form.sealing, Spoilt: func(key []byte) {
		s.spoilt = append(s.spoilt, spoilt{hex.EncodeToString(key), errSeal}) // it is stored as it is
	}}
	err := r.Scan(nil, nil, false, func(key, value []byte) bool {
		if form.skip != nil && form.skip(key) {
			return true
		}
		size := len(key) + len(value)
		if c.records > 0 && (begins(key, size) || c.size()+size > chunkMost) {
			if bad = s.endChunk(t); bad != nil {
				return false
			}
		}
		c.add(key, value)
		seals.Add(key, value)
		t.records++
		t.bytes += int64(size)
		bad = s.bodyOf(form, t, key, value)
		return bad == nil
	})
	seals.End()
	if err == nil {
		err = bad
	}
	if err == nil && c.records > 0 {
		err = s.endChunk(t)
	}
	return t, err
}

// bodyOf notes the body that a record names.
func (s *saver) bodyOf(f form, t *tree, key, value []byte) error {
	if f.bodyOf == nil {
		return nil
	}
	body, message, err := f.bodyOf(key, value)
	if fault.Is(err, fault.Corrupt) {
		s.spoilt = append(s.spoilt, spoilt{hex.EncodeToString(key), err}) // it is stored as it is
		err = nil
	}
	if message {
		t.messages++
	}
	if !body.IsZero() {
		s.chunk.bodies = append(s.chunk.bodies, body)
		s.want(body)
	}
	return err
}

func (s *saver) endChunk(t *tree) error {
	s.raw = s.chunk.encode(s.raw[:0])
	n, err := s.putZipped(kindChunk, s.raw)
	t.chunks = append(t.chunks, leaf{n, bytes.Clone(s.chunk.first)})
	s.chunk.reset()
	return err
}

// want notes that a body is needed, if it is not there with all that it needs.
func (s *saver) want(body name) {
	if !s.have(object{kindBody, body}) {
		s.wanted[body] = nil
		return
	}
	for _, need := range s.repo.needs[body] {
		if !s.have(object{kindBody, need}) {
			s.wanted[need] = nil
		}
	}
}

// have tells whether an object is there. For a full backup it must have been read.
func (s *saver) have(o object) bool {
	if _, ok := s.repo.index[o]; !ok {
		return false
	}
	if !s.opt.Full || s.sound[o] {
		return true
	}
	if ok := s.repo.sound(o); !ok {
		s.problem(Problem{"", "the " + o.String() + " in the backup is damaged; it is stored again"})
		delete(s.repo.index, o)
		delete(s.repo.more, o)
		return false
	}
	s.sound[o] = true
	return true
}

// putZipped stores a chunk or tree, unless it is there.
func (s *saver) putZipped(kind byte, content []byte) (name, error) {
	o := object{kind, sha256.Sum256(content)}
	if s.have(o) {
		return o.name, nil
	}
	s.zipped = s.repo.enc.EncodeAll(content, s.zipped[:0])
	return o.name, s.put(o, nil, bytes.NewReader(s.zipped))
}

// put stores an object in the present pack.
func (s *saver) put(o object, needs []name, r io.Reader) (err error) {
	if s.pack == nil {
		if s.pack, err = newPackWriter(s.repo.disk, s.repo.disk.join(s.repo.dir, packsDir)); err != nil {
			return err
		}
	}
	p, err := s.pack.put(o, needs, r)
	if err != nil {
		return err
	}
	s.repo.index[o] = spot{pack: uint32(len(s.repo.packs)), off: p.off, size: p.size, sum: sumStart(p.sum)}
	if len(needs) > 0 {
		s.repo.needs[o.name] = needs
	}
	s.sound[o] = true
	s.done.Objects++
	s.done.Bytes += p.size
	if s.pack.at >= packSize {
		return s.flush()
	}
	return nil
}

// flush makes the present pack durable.
func (s *saver) flush() error {
	if s.pack == nil {
		return nil
	}
	base, err := s.pack.finish()
	s.repo.packs = append(s.repo.packs, base)
	s.pack = nil
	return err
}

func (s *saver) abandon() {
	if s.pack != nil {
		s.pack.abandon()
	}
}

// bodies stores the bodies that are wanted, and what they need.
func (s *saver) bodies(ctx context.Context) error {
	blobs := s.house.Engine.Blobs()
	parts := map[name][]name{}
	err := blobs.Needs(ctx, func(body name, _ time.Time, needs []name) bool {
		if _, ok := s.wanted[body]; ok {
			s.wanted[body] = slices.Clone(needs)
			for _, n := range needs {
				if !s.have(object{kindBody, n}) {
					parts[n] = nil
				}
			}
		}
		return ctx.Err() == nil
	})
	if err != nil {
		return err
	}
	maps.Copy(parts, s.wanted) // a part needs nothing, so a name in both is that of a body
	done := int64(0)
	for _, body := range slices.SortedFunc(maps.Keys(parts), func(a, b name) int { return bytes.Compare(a[:], b[:]) }) {
		if err := s.body(ctx, blobs, body, parts[body]); err != nil {
			return err
		}
		done++
		s.progress("bodies", done, int64(len(parts)))
	}
	return ctx.Err()
}

func (s *saver) body(ctx context.Context, blobs engine.Blobs, body name, needs []name) error {
	r, err := blobs.Open(ctx, body, 0, -1)
	if err == nil {
		defer r.Close()
		err = s.put(object{kindBody, body}, needs, r)
	}
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
		s.lose(body, err)
		return nil
	}
	return err
}

// lose notes a body that the store itself does not have any more: the rest is saved.
func (s *saver) lose(body name, cause error) {
	s.snap.end.Lost = append(s.snap.end.Lost, body.String())
	s.problem(Problem{"", "the store does not have the body " + body.String() + " that a message names: " + fault.Say(cause)})
}

func (s *saver) finish() (Saved, error) {
	if err := s.flush(); err != nil {
		return Saved{}, err
	}
	var messages, queued int64
	for _, sh := range s.snap.shards {
		if _, ok := sh.account(); ok {
			messages += sh.Messages
		} else {
			queued += sh.Messages
		}
	}
	s.done.Took = s.house.Now().Sub(s.began)
	slices.Sort(s.snap.end.Lost)
	s.snap.end = snapEnd{
		Accounts: s.done.Accounts, Messages: messages, Queued: queued, Seconds: s.done.Took.Seconds(),
		Objects: s.done.Objects, Bytes: s.done.Bytes, Lost: s.snap.end.Lost, Damaged: len(s.damaged), Line: s.house.line(),
	}
	b, err := s.snap.encode()
	if err != nil {
		return Saved{}, err
	}
	if err := s.repo.noteKnown(); err != nil { // there is no snapshot without it
		return Saved{}, err
	}
	if err := s.repo.disk.write(s.repo.disk.join(s.repo.dir, snapsDir, snapName(s.snap.head.Time)), b); err != nil {
		return Saved{}, err
	}
	s.done.Snapshot = s.snap.info()
	return s.done, nil
}

var errSeal = fault.New(fault.Corrupt, "it fails its checksum")

// spoilt is a record that the store itself could not read any more.
type spoilt struct {
	key   string // in hex
	cause error
}

// tellSpoilt tells of the records of a shard that are damaged in the store: once.
func (s *saver) tellSpoilt(ctx context.Context, sh engine.Shard) {
	where := ""
	for _, r := range s.spoilt {
		if where == "" {
			where = s.whereIs(ctx, sh)
		}
		if key := fmt.Sprint(sh, r.key); !s.damaged[key] {
			s.damaged[key] = true
			s.problem(Problem{"", "the store has a damaged record, " + r.key + ", in " + where + "; it is saved as it is: " + fault.Say(r.cause)})
		}
	}
	s.spoilt = nil
}

// whereIs is what a person calls a shard.
func (s *saver) whereIs(ctx context.Context, sh engine.Shard) string {
	id, ok := (&snapShard{Shard: sh}).account()
	switch {
	case ok:
		if a, err := s.house.Directory.AccountByID(ctx, id); err == nil {
			return "account " + a.Address.String()
		}
		return fmt.Sprintf("account %d", id)
	case sh == store.DirectoryShard:
		return "the directory"
	}
	return nameOf(sh)
}

// nameOf is what a person calls a shard that is no account's, nor the directory.
func nameOf(sh engine.Shard) string {
	_, queued := queue.PartOf(sh)
	switch {
	case queued:
		return "the queue"
	case sh == linksShard:
		return "the links"
	case sh == nodesShard:
		return "what the nodes know of each other"
	}
	return "the list of accounts"
}

func (s *saver) progress(step string, done, total int64) {
	if s.opt.Progress != nil {
		s.opt.Progress(Progress{step, done, total, s.done.Bytes})
	}
}

func (s *saver) problem(p Problem) {
	if s.opt.Problem != nil {
		s.opt.Problem(p)
	}
}
