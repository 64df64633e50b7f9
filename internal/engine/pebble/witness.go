package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/fault"
)

// witness remembers, apart from the database, what its files must hold.
//
// The database checks each block it reads, but some damage it takes for the end of
// a file that a crash has cut short: a log that was damaged in its last 32 KB, or cut
// where a record ends, a manifest that was damaged anywhere. Commits that were
// acknowledged would silently be gone. So:
//
//   - "synced" says of each log and manifest how many bytes have been synced, and
//     their checksum. It is written after each sync, without a sync of its own: what
//     it says is never more than what is true, and after a power cut it may be less.
//     A file leaves the list, durably, before it is removed.
//   - "sums" has a line for each table, blob file and options file, which never
//     change: checksum, size, name, checksum of the line.
//
// Open holds the first list against the files before the database sees them; Check
// both. The files are named by their base names.
type witness struct {
	fs  vfs.FS // below the disk
	dir string

	mu     sync.Mutex
	dead   bool // nothing is written any more
	file   vfs.File
	safe   int    // the slot that is not to be overwritten: it is durable
	born   bool   // the file's name is durable
	number uint64 // of the last state written
	synced []extent

	sums       map[string]extent
	sumsFile   vfs.File
	sumsFailed bool            // its file does not hold all of them
	lines      int             // in the file
	writing    map[string]bool // files that this process began and has not closed yet
}

// extent is what a file begins with.
type extent struct {
	name string
	size int64
	sum  uint32
}

const (
	syncedName = "synced"
	sumsName   = "sums"
	slotBytes  = 8 << 10
	slots      = 2

	witnessVersion = 1
)

func newWitness(fs vfs.FS, dir string) *witness {
	return &witness{fs: fs, dir: dir, sums: map[string]extent{}, writing: map[string]bool{}}
}

func (w *witness) path(name string) string { return w.fs.PathJoin(w.dir, name) }

// grows tells whether a file is written on and on, and what was synced of it counts.
func grows(name string) bool { return isLog(name) || strings.HasPrefix(name, "MANIFEST-") }

// fixed tells whether a file never changes once it is closed, but perhaps its name.
func fixed(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob") || strings.HasPrefix(name, "OPTIONS-") || temporary(name)
}

// temporary tells whether a file will get its name when it is done.
func temporary(name string) bool { return strings.HasSuffix(name, ".dbtmp") }

// encode writes the list as a slot has it.
func (w *witness) encode() []byte {
	b := make([]byte, 4, 256)
	b = append(b, witnessVersion)
	b = binary.BigEndian.AppendUint64(b, w.number)
	b = append(b, byte(len(w.synced)))
	for _, f := range w.synced {
		b = append(append(b, byte(len(f.name))), f.name...)
		b = binary.BigEndian.AppendUint64(b, uint64(f.size))
		b = binary.BigEndian.AppendUint32(b, f.sum)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)+4))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeSlot reads a slot; ok is false if it does not hold one.
func decodeSlot(b []byte) (number uint64, list []extent, ok bool) {
	if len(b) < 18 {
		return 0, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if n < 18 || int64(n) > int64(len(b)) || crc32.Checksum(b[:n-4], castagnoli) != binary.BigEndian.Uint32(b[n-4:]) || b[4] != witnessVersion {
		return 0, nil, false
	}
	number, count, b := binary.BigEndian.Uint64(b[5:]), int(b[13]), b[14:n-4]
	for range count {
		if len(b) < 1 || len(b) < 1+int(b[0])+12 {
			return 0, nil, false
		}
		length := int(b[0])
		name, rest := string(b[1:1+length]), b[1+length:]
		list = append(list, extent{name, int64(binary.BigEndian.Uint64(rest)), binary.BigEndian.Uint32(rest[8:])})
		b = rest[12:]
	}
	return number, list, true
}

// note records what has been synced of a file. It never fails: what it cannot write
// it does not vouch for.
func (w *witness) note(f extent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.synced, func(e extent) bool { return e.name == f.name })
	switch {
	case i >= 0:
		w.synced[i] = f
	case len(w.synced) == 255 || (len(w.synced)+1)*64 > slotBytes-64:
		return nil // a database with so many logs is not well; the others are enough to tell
	default:
		w.synced = append(w.synced, f)
	}
	if w.dead {
		return nil
	}
	if w.file == nil {
		if err := w.create(); err != nil {
			return err
		}
	}
	return w.write()
}

// create makes the file.
func (w *witness) create() error {
	f, err := w.fs.OpenReadWrite(w.path(syncedName), vfs.WriteCategoryUnspecified)
	if err == nil {
		w.file, w.safe, w.born = f, 1, false
		_, err = f.WriteAt(make([]byte, slots*slotBytes), 0)
	}
	return err
}

// write puts the list into the slot that may be lost.
func (w *witness) write() error {
	w.number++
	_, err := w.file.WriteAt(w.encode(), int64(1-w.safe)*slotBytes)
	return err
}

// forget takes a file off the lists before it is removed, so that nobody misses it
// after a power cut.
func (w *witness) forget(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sums, name)
	i := slices.IndexFunc(w.synced, func(e extent) bool { return e.name == name })
	if i < 0 {
		return nil
	}
	before := slices.Clone(w.synced)
	w.synced = slices.Delete(w.synced, i, i+1)
	err := w.save()
	if err != nil { // it may be tried again
		w.synced = before
	}
	return err
}

// save makes the list durable. mu is held.
func (w *witness) save() error {
	if w.dead || w.file == nil {
		return nil
	}
	err := w.write()
	if err == nil {
		err = w.file.Sync()
	}
	if err == nil && !w.born {
		err = syncDir(w.fs, w.dir)
		w.born = err == nil
	}
	if err == nil {
		w.safe = 1 - w.safe
		err = w.write() // so that damage to one of the two does no harm
	}
	return err
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// rest makes all that is known durable: the database has nothing to do.
func (w *witness) rest() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.save()
	switch {
	case w.dead:
	case w.sumsFailed:
		err = errors.Join(err, w.writeSums())
	case w.sumsFile != nil:
		err = errors.Join(err, w.sumsFile.Sync())
	}
	return err
}

// stop ends all writing and closes the files.
func (w *witness) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
	for _, f := range []vfs.File{w.file, w.sumsFile} {
		if f != nil {
			_ = f.Close()
		}
	}
	w.file, w.sumsFile = nil, nil
}

// load reads the list that Open found, and nothing if there is none that can be read:
// it is written without syncs, so a power cut may take it.
func (w *witness) load() error {
	b, err := readWhole(w.fs, w.path(syncedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	w.take(b)
	return nil
}

// take reads the newest list of those in a file.
func (w *witness) take(b []byte) {
	for slot := range slots {
		number, list, ok := decodeSlot(b[min(slot*slotBytes, len(b)):min((slot+1)*slotBytes, len(b))])
		if ok && number >= w.number {
			w.number, w.synced, w.safe = number, list, slot
		}
	}
}

// begin goes on with the file that load read.
func (w *witness) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.synced) == 0 {
		return nil // note will make a new one
	}
	f, err := w.fs.OpenReadWrite(w.path(syncedName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w.file = f
	return w.save() // what was read may not be durable yet, and the other slot may say less
}

// holds tells whether a file begins with what it must begin with: "" if so.
func (w *witness) holds(f extent) (wrong string, err error) {
	size, sum, err := w.measure(f.name, f.size)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing", nil
	case err != nil:
		return "", err
	case size < f.size:
		return "is cut short", nil
	case sum != f.sum:
		return "is damaged", nil
	}
	return "", nil
}

// measure returns how many of the first bytes of a file there are, and their checksum.
func (w *witness) measure(name string, limit int64) (size int64, sum uint32, err error) {
	f, err := w.fs.Open(w.path(name), vfs.SequentialReadsOption)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	buf := make([]byte, min(max(limit, 1), 256<<10))
	for size < limit {
		n, err := f.Read(buf[:min(limit-size, int64(len(buf)))])
		sum, size = crc32.Update(sum, castagnoli, buf[:n]), size+int64(n)
		if err == io.EOF || n == 0 && err == nil {
			break
		}
		if err != nil {
			return size, sum, err
		}
	}
	return size, sum, nil
}

// checkBefore holds the files against what is known of them, before the database
// opens them: it would take some damage for a crash, and drop what it finds behind.
func (w *witness) checkBefore() error {
	names, err := w.fs.List(w.dir)
	if err != nil {
		return err
	}
	if err := w.load(); err != nil {
		return err
	}
	if err := w.checkMarkers(names); err != nil {
		return err
	}
	current := currentManifest(names)
	for _, f := range w.synced {
		if f.name == current {
			if err := w.mustHold(f); err != nil {
				return err
			}
		}
	}
	if err := w.checkCounted(names, current); err != nil {
		return err
	}
	return w.drop()
}

// drop forgets files that do not count and are not as they were: an earlier version, which
// does not keep the list, has worked here since.
func (w *witness) drop() error {
	var failure error
	w.synced = slices.DeleteFunc(w.synced, func(f extent) bool {
		wrong, err := w.holds(f)
		failure = errors.Join(failure, err)
		return wrong != ""
	})
	return failure
}

// checkCounted checks the logs, tables and blob files that the manifest says there are.
func (w *witness) checkCounted(names []string, current string) error {
	if current == "" {
		return nil
	}
	count, err := readCensus(w.fs, w.path(current))
	if err != nil {
		return nil // the database will say what it thinks of it
	}
	for _, f := range w.synced {
		if number, err := strconv.ParseUint(strings.TrimSuffix(f.name, ".log"), 10, 64); err == nil && number >= count.minLog {
			if err := w.mustHold(f); err != nil {
				return err
			}
		}
	}
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	for _, t := range count.tables {
		if err := w.mustBe(fmt.Sprintf("%06d.sst", t.backing), t.size, there); err != nil {
			return err
		}
	}
	for _, b := range count.blobs {
		if err := w.mustBe(fmt.Sprintf("%06d.blob", b.file), b.size, there); err != nil {
			return err
		}
	}
	return nil
}

// mustHold checks what a file begins with.
func (w *witness) mustHold(f extent) error {
	wrong, err := w.holds(f)
	if err == nil && wrong != "" {
		err = damaged(f.name, wrong)
	}
	return err
}

// mustBe checks that a file is there and has a size; 0 is any.
func (w *witness) mustBe(name string, size uint64, there map[string]bool) error {
	if !there[name] {
		return damaged(name, "is missing")
	}
	info, err := w.fs.Stat(w.path(name))
	if err == nil && size != 0 && uint64(info.Size()) != size {
		return damaged(name, "is cut short")
	}
	return err
}

// setAside renames options files that are damaged: the database writes a new one at each
// start, but would not go on beside one that it cannot read.
func (w *witness) setAside() (aside []string, err error) {
	if err := w.loadSums(); err != nil {
		return nil, err
	}
	if err := w.dropUncounted(); err != nil {
		return nil, err
	}
	for name, f := range w.sums {
		if !strings.HasPrefix(name, "OPTIONS-") {
			continue
		}
		wrong, err := w.holds(f)
		if err == nil && wrong != "" {
			aside = append(aside, name)
			err = w.fs.Rename(w.path(name), w.path("damaged-"+name))
			delete(w.sums, name)
		}
		if err != nil {
			return aside, err
		}
	}
	return aside, nil
}

// dropUncounted forgets what a crash has left of tables that do not count: the database is about
// to remove them.
func (w *witness) dropUncounted() error {
	names, err := w.fs.List(w.dir)
	if err != nil {
		return err
	}
	count, err := readCensus(w.fs, w.path(currentManifest(names)))
	if err != nil {
		return nil // the database will say what it thinks of it
	}
	maps.DeleteFunc(w.sums, func(name string, _ extent) bool { return !count.counts(name) })
	return nil
}

// checkMarkers checks that the two empty files are there without which the database
// would begin anew.
func (w *witness) checkMarkers(names []string) error {
	used := slices.ContainsFunc(w.synced, func(f extent) bool { return isLog(f.name) && f.size > 0 }) || slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".sst") })
	for _, marker := range []string{"marker.manifest.", "marker.format-version."} {
		if used && !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, marker) }) {
			return damaged(marker+"*", "is missing")
		}
	}
	return nil
}

// currentManifest returns the name of the manifest that the marker names.
func currentManifest(names []string) string {
	newest, name := "", ""
	for _, n := range names {
		// marker.manifest.<number of the marker>.<name>
		if rest, ok := strings.CutPrefix(n, "marker.manifest."); ok {
			if number, manifest, _ := strings.Cut(rest, "."); number > newest {
				newest, name = number, manifest
			}
		}
	}
	return name
}

// damaged names a file of the folder that is not as it must be.
func damaged(name, wrong string) error {
	return fault.Newf(fault.Corrupt, "the file %s of the store %s; nothing was changed: see martlet verify --repair", name, wrong)
}

func readWhole(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}
