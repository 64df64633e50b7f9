package pebble

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Salvaged says what Repair has done, or would.
type Salvaged struct {
	Damaged []FileDamage
	Keys    int      // brought over
	Bytes   int64    // of them
	Values  int      // keys that are lost because what they say cannot be read
	Gaps    int      // ranges of keys of which some may be lost
	Beside  int      // keys found in such ranges all the same
	Turned  []string // files that are as they were again
	Holes   []Hole   // what could not be read
}

// FileDamage is a file that is not as it was written.
type FileDamage struct{ File, What string }

// A folder that a repair works in, beside the store's own; and freshName.
const linkedName = ".salvage" // the damaged store as far as it can be opened

// Inspect names the files of a folder which are not as they were written, and changes
// nothing. One that a process has open is Busy, one that a newer version wrote Unsupported.
func Inspect(ctx context.Context, dir string, opt Options) (found []FileDamage, err error) {
	lock, err := takeLock(opt.withDefaults(), dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := mayRead(opt.FS, dir); fault.Is(err, fault.Unsupported) {
		return nil, err
	}
	found, err = inspect(ctx, dir, opt)
	if _, ok := marked(opt.FS, dir); ok {
		found = append(found, FileDamage{wholeName, "says that a repair was cut short"})
	}
	return found, err
}

func inspect(ctx context.Context, dir string, opt Options) ([]FileDamage, error) {
	w := newWitness(opt.FS, dir)
	names, err := opt.FS.List(dir)
	if err != nil {
		return nil, err
	}
	var found []FileDamage
	note := func(file, what string) { found = append(found, FileDamage{file, what}) }
	w.loadLeft(names, note)
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	if err := w.checkMarkers(names); err != nil {
		note("marker.*", fault.Say(err))
	}
	current := currentManifest(names)
	if current == "" && len(found) == 0 {
		return nil, nil // the first start was cut short, and the next begins anew
	}
	if current == "" {
		current = w.newestManifest()
	}
	count, err := readCensus(opt.FS, w.path(current))
	if err != nil {
		note(current, "cannot be read")
	}
	for name, size := range count.needed() {
		if err := w.mustBe(name, size, there); err != nil {
			note(name, fault.Say(err))
		}
	}
	for _, f := range w.known() {
		if !count.counts(f.name) || strings.HasPrefix(f.name, "MANIFEST-") && f.name != current {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		wrong, err := w.holds(f)
		if err != nil {
			wrong = "cannot be read: " + err.Error()
		}
		if wrong != "" {
			note(f.name, wrong)
		}
	}
	c := checker{ctx: ctx, w: w, count: count, report: note}
	for _, name := range names {
		if err := c.unknown(name); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func logNumber(name string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSuffix(name, ".log"), 10, 64)
	return n, err == nil && isLog(name)
}

// newestManifest is that which was synced last, for want of a marker.
func (w *witness) newestManifest() (name string) {
	for _, f := range w.synced {
		if strings.HasPrefix(f.name, "MANIFEST-") && f.name > name {
			name = f.name
		}
	}
	return name
}

func tableName(number uint64) string { return fmt.Sprintf("%06d.sst", number) }

// counts tells whether a log, table or blob file counts. What an ordinary crash has left
// of one that the manifest does not name yet does not, and will be removed. A census
// that could not be made is nil: then everything counts.
func (c *census) counts(name string) bool {
	if c == nil {
		return true
	}
	if number, ok := logNumber(name); ok {
		return number >= c.minLog
	}
	_, needed := c.needed()[name]
	return needed || !isTable(name)
}

// needed returns the tables and blob files that count, with their sizes.
func (c *census) needed() map[string]uint64 {
	if c == nil {
		return nil
	}
	if c.files != nil {
		return c.files
	}
	files := map[string]uint64{}
	for _, t := range c.tables {
		files[tableName(t.backing)] = t.size
	}
	for _, b := range c.blobs {
		files[fmt.Sprintf("%06d.blob", b.file)] = b.size
	}
	c.files = files
	return files
}

// Repair makes a new store of all that can be read of a damaged one and puts it in its place.
// A store that a process has open is Busy, and none can open it meanwhile. The damaged one
// is moved, as it was, to the folder away, which must be on the same file system and not be
// there yet. An interrupted repair is simply run again: it goes on with a store that is new, but
// whose records were not all mended (see BeginMending), and says once more what was lost.
// It needs as much space as the store has.
func Repair(ctx context.Context, dir, away string, opt Options, progress func(Salvaged)) (s Salvaged, err error) {
	opt = opt.withDefaults()
	r := &repair{ctx: ctx, fs: opt.FS, dir: dir, away: away, opt: opt, progress: progress}
	if !unfinished(r.fs, dir) {
		lock, err := takeLock(opt, dir)
		if err != nil {
			return r.done, err
		}
		defer lock.Close()
		if err := mayRead(r.fs, dir); fault.Is(err, fault.Unsupported) {
			return r.done, err
		}
		if r.state, err = stateOf(r.fs, dir); err != nil {
			return r.done, err
		}
	}
	if done, err := r.finish(); done || err != nil {
		return r.done, err
	}
	if r.done.Damaged, err = inspect(ctx, dir, opt); err != nil {
		return r.done, err
	}
	if by, ok := marked(r.fs, dir); ok && opt.Mending {
		if len(r.done.Damaged) == 0 {
			return by, nil
		}
		r.done.Holes = by.Holes
	}
	if err := errors.Join(r.fs.RemoveAll(dir+linkedName), r.fs.RemoveAll(dir+freshName)); err != nil {
		return r.done, err
	}
	if err := r.link(); err != nil {
		return r.done, err
	}
	before := r.done // a copy that hangs may still write to its own
	if err := r.copy(); err != nil {
		return before, errors.Join(err, r.fs.RemoveAll(dir+linkedName), r.fs.RemoveAll(dir+freshName))
	}
	whole, err := json.Marshal(completed{r.done, r.state})
	if err != nil {
		return r.done, err
	}
	if err := replaceFile(r.fs, dir+freshName, wholeName, whole); err != nil {
		return r.done, err
	}
	_, err = r.finish()
	return r.done, err
}

type repair struct {
	ctx       context.Context
	fs        vfs.FS
	dir, away string
	opt       Options
	progress  func(Salvaged)
	done      Salvaged
	state     string // of the damaged store

	count  *census
	bodies []string // files with a hole in bodies
	known  [][]byte // what allEdges returns
	disk   *disk
	from   *db.DB
	to     *db.DB
	batch  *db.Batch
}

// link makes a folder that the database can open: the files themselves where they are
// whole, and in place of the others what can be made of them.
func (r *repair) link() error {
	names, err := r.fs.List(r.dir)
	if err == nil {
		err = r.fs.MkdirAll(r.dir+linkedName, 0o700)
	}
	if err != nil {
		return err
	}
	w := newWitness(r.fs, r.dir)
	w.loadLeft(names, func(file, what string) {}) // inspect has said it
	current := currentManifest(names)
	if current == "" {
		if current = w.newestManifest(); current == "" {
			return fault.New(fault.Corrupt, "no manifest is left that names the files of the store; restore a backup")
		}
		names = append(names, "marker.manifest.000001."+current)
	}
	if !strings.Contains(strings.Join(names, " "), "marker.format-version.") {
		names = append(names, fmt.Sprintf("marker.format-version.000001.%03d", db.FormatValueSeparation))
	}
	if err := r.linkManifest(w, current); err != nil {
		return err
	}
	for _, name := range names {
		if err := r.linkOne(w, name); err != nil {
			return err
		}
	}
	for _, f := range w.synced {
		if number, isNumber := logNumber(f.name); isNumber && number >= r.count.minLog && !slices.Contains(names, f.name) {
			r.done.Holes = append(r.done.Holes, Hole{File: f.name, Commits: true})
		}
	}
	return r.stand()
}

func (r *repair) old(name string) string    { return r.fs.PathJoin(r.dir, name) }
func (r *repair) linked(name string) string { return r.fs.PathJoin(r.dir+linkedName, name) }

func (r *repair) write(name string, b []byte) error {
	f, err := r.fs.Create(r.linked(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// linkManifest takes the manifest, or its twin if it is damaged.
func (r *repair) linkManifest(w *witness, current string) (err error) {
	b, whole := r.manifest(w, current, current)
	if !whole {
		b, whole = r.manifest(w, current, twinOf(current))
	}
	if !whole {
		return fault.Newf(fault.Corrupt, "the file %s of the store and its copy are damaged; restore a backup", current)
	}
	if err := r.write(current, b); err != nil {
		return err
	}
	r.count, err = readCensus(r.fs, r.linked(current))
	return err
}

// manifest reads the manifest or its twin, and tells whether it is as it was.
func (r *repair) manifest(w *witness, current, name string) (b []byte, whole bool) {
	b, err := readWhole(r.fs, r.old(name))
	if err != nil {
		return nil, false
	}
	for _, f := range w.synced {
		if f.name != current {
			continue
		}
		if int64(len(b)) < f.size || crc32.Checksum(b[:f.size], castagnoli) != f.sum {
			return nil, false
		}
		if name != current {
			b = b[:f.size] // behind that it may be anything
		}
	}
	return b, true
}

func (r *repair) linkOne(w *witness, name string) error {
	switch {
	case strings.HasPrefix(name, "marker."):
		return r.write(name, nil)
	case isLog(name):
		return r.linkLog(w, name)
	case isTable(name):
		return r.linkTable(w, name)
	}
	return nil // the database makes its own, and those of the witness say nothing of copies
}

// linkLog takes a log, or those of its records that are whole.
func (r *repair) linkLog(w *witness, name string) error {
	number, ok := logNumber(name)
	if !ok || number < r.count.minLog {
		return nil
	}
	b, unread := readLeft(r.fs, r.old(name))
	damaged := unread != nil
	for _, f := range w.synced {
		if f.name != name {
			continue
		}
		if int64(len(b)) >= f.size && crc32.Checksum(b[:f.size], castagnoli) == f.sum {
			continue
		}
		damaged = true
		left := salvageLog(b, uint32(number))
		if back := turnBack(b, f); back != nil && len(bytes.Join(salvageLog(back, uint32(number)), nil)) > len(bytes.Join(left, nil)) {
			r.done.Turned = append(r.done.Turned, name)
			b, damaged = back, unread != nil
		}
	}
	if damaged {
		r.done.Holes = append(r.done.Holes, Hole{File: name, Commits: true})
		b = writeLog(salvageLog(b, uint32(number)), uint32(number))
	}
	return r.write(name, b)
}

// stand puts something of the right size in the place of tables and blob files that are
// missing or cut short: the database wants to see them.
func (r *repair) stand() error {
	for name, size := range r.count.needed() {
		info, err := r.fs.Stat(r.linked(name))
		if err == nil && (size == 0 || uint64(info.Size()) == size) {
			continue
		}
		b := r.withEnd(name, extent{}) // what there is
		if b == nil {
			b, _ = readLeft(r.fs, r.old(name))
		}
		if err == nil {
			if err := r.fs.Remove(r.linked(name)); err != nil {
				return err
			}
		}
		whole := make([]byte, size)
		copy(whole, b)
		if err := r.write(name, whole); err != nil {
			return err
		}
	}
	return nil
}

// copy brings all that can be read into a new store.
func (r *repair) copy() error {
	cache := db.NewCache(r.opt.CacheBytes)
	defer cache.Unref()
	quick := r.opt
	quick.brake = 1 // nobody tries again
	e := &Engine{opt: quick, dir: r.dir + linkedName, disk: newDisk(r.dir+linkedName, quick)}
	r.disk = e.disk
	settings := e.settings(cache)
	settings.ReadOnly = true
	var err error
	if r.from, err = db.Open(e.dir, settings); err != nil {
		return fault.Wrap(fault.Corrupt, "what is left of the store cannot be opened; restore a backup", err)
	}
	if number, err := formatOf(r.from); err == nil && number > format { // the file does not say so
		return errors.Join(newer(number, "by a newer version"), r.from.Close())
	}
	to, err := Open(r.dir+freshName, r.opt)
	if err != nil {
		return errors.Join(err, r.from.Close())
	}
	stop, copied := to.disk.stop(), make(chan error, 1)
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	r.ctx = ctx
	go func() { copied <- r.into(to) }()
	select {
	case err = <-copied:
		return errors.Join(err, to.Close(), r.from.Close())
	case <-stop: // it may never return
		err = cmp.Or(to.disk.check(r.dir+freshName, r.opt.Now(), 0), error(errFull))
		return errors.Join(fault.Wrap(fault.Unavailable, "the new store cannot be written; it needs as much space as the damaged one has", err), to.disk.abandon(), r.disk.abandon())
	}
}

// into fills the new store.
func (r *repair) into(to *Engine) (err error) {
	r.to, r.batch = to.db, to.db.NewBatch()
	for _, space := range []byte{spaceHeaders, spacePieces, spacePartial, spaceShards} {
		if err == nil {
			err = r.keys([]byte{space}, []byte{space + 1})
		}
	}
	if err == nil {
		err = r.batch.Commit(db.Sync)
	}
	if err == nil {
		err = r.replay()
	}
	if err == nil {
		err = r.dropTorn()
	}
	if err == nil {
		err = to.db.Flush()
	}
	return err
}

// replay applies what the logs hold once more: it is newer than what the tables do, also of
// keys in ranges that could not be read.
func (r *repair) replay() error {
	names, err := r.fs.List(r.dir + linkedName)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		number, ok := logNumber(name)
		if !ok || number < r.count.minLog {
			continue
		}
		b, err := readWhole(r.fs, r.linked(name))
		if err != nil {
			return err
		}
		for _, record := range salvageLog(b, uint32(number)) {
			batch := r.to.NewBatch()
			if err := batch.SetRepr(bytes.Clone(record)); err != nil || batch.Empty() {
				continue // no batch of ours
			}
			if err := batch.Commit(db.NoSync); err != nil {
				return err
			}
		}
	}
	return nil
}

// put brings one key over.
func (r *repair) put(key, value []byte) error {
	if err := r.batch.Set(key, value, nil); err != nil {
		return err
	}
	r.done.Keys++
	r.done.Bytes += int64(len(key) + len(value))
	if r.batch.Len() < batchBytes {
		return nil
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if r.progress != nil {
		r.progress(r.done)
	}
	if err := r.batch.Commit(db.NoSync); err != nil {
		return err
	}
	r.batch = r.to.NewBatch()
	return nil
}

// keys copies the keys of a range, and goes on behind what cannot be read.
func (r *repair) keys(lower, upper []byte) error {
	for lower != nil {
		last, failed, err := r.scan(lower, upper)
		if err != nil || !failed {
			return err
		}
		next := behind(last, upper, r.allEdges(), func(key []byte) bool { return r.fails(last, upper, key) })
		r.done.Gaps++
		if err := r.gap(last, next, upper); err != nil {
			return err
		}
		lower = next
	}
	return nil
}

// scan copies until it cannot read on. last is the first key it has not seen.
func (r *repair) scan(lower, upper []byte) (last []byte, failed bool, err error) {
	it, err := r.from.NewIter(&db.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, false, err
	}
	last = lower
	for ok := it.First(); ok; ok = it.Next() {
		last = append(bytes.Clone(it.Key()), 0)
		value, unreadable := it.ValueAndErr()
		if unreadable != nil || last[0] == spacePieces && !soundPiece(value) {
			r.done.Values++
			r.hole("", it.Key(), last)
			continue
		}
		if err := r.put(it.Key(), value); err != nil {
			return nil, false, errors.Join(err, it.Close())
		}
	}
	failed = it.Error() != nil
	_ = it.Close()
	return last, failed, nil
}

// fails tells whether a seek does.
func (r *repair) fails(from, upper, key []byte) bool {
	it, err := r.from.NewIter(&db.IterOptions{LowerBound: from, UpperBound: upper})
	if err != nil {
		return true
	}
	it.SeekGE(key)
	failed := it.Error() != nil
	_ = it.Close()
	return failed
}
