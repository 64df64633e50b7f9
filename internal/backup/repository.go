package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/martlet-mail/martlet/internal/fault"
)

// What lies in a repository's folder.
const (
	formatFile  = "martlet-backup" // what it is; made last
	formatText  = "martlet backup repository, format 1\n"
	formatWords = "martlet backup repository, format "
	packsDir    = "packs"
	snapsDir    = "snapshots"
	knownFile   = "packs.known" // the packs there were when all was in order
	writerLock  = "lock"        // held alone by who writes
	readerLock  = "lock.readers"
)

// repository is an open folder.
type repository struct {
	disk  Disk
	dir   string
	packs []string // base names
	index map[object]spot
	more  map[object][]spot // other copies of an object
	needs map[name][]name   // of bodies that need others
	bad   []Problem         // packs whose index is damaged: what they hold is not there

	whole bool // no pack has gone since the repository was last in order

	unlock []func()
	enc    *zstd.Encoder
	dec    *zstd.Decoder
}

// spot is where an object lies.
type spot struct {
	pack      uint32
	off, size int64
	sum       uint64 // the first bytes of that of the stored bytes
}

// use is what somebody does with a repository.
type use int

const (
	toRead  use = iota // objects; nothing may be removed meanwhile
	toAdd              // objects and snapshots; readers may stay
	toPrune            // alone
)

// open opens a repository. Who adds makes one of an empty folder, or of none.
func open(d Disk, dir string, u use) (*repository, error) {
	r := &repository{disk: d, dir: dir, index: map[object]spot{}, more: map[object][]spot{}, needs: map[name][]name{}}
	err := r.open(u)
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *repository) open(u use) error {
	fresh, err := r.format(u == toAdd)
	if err != nil {
		return err
	}
	if err := r.lock(u); err != nil {
		return err
	}
	if fresh {
		if err := r.disk.write(r.disk.join(r.dir, formatFile), []byte(formatText)); err != nil {
			return err
		}
	}
	if err := r.load(u != toRead); err != nil {
		return err
	}
	return r.codecs()
}

func (r *repository) close() {
	for _, fn := range slices.Backward(r.unlock) {
		fn()
	}
	r.unlock = nil
	if r.dec != nil {
		r.dec.Close()
	}
}

func (r *repository) codecs() (err error) {
	if r.enc, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true)); err != nil {
		return err
	}
	r.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
	return err
}

// format tells a repository from other folders. fresh is one that is only to become one.
func (r *repository) format(make bool) (fresh bool, err error) {
	path := r.disk.join(r.dir, formatFile)
	text, err := r.disk.read(path)
	switch {
	case err == nil && string(text) == formatText:
		return false, nil
	case err == nil && strings.HasPrefix(string(text), formatWords):
		return false, fault.Newf(fault.Unsupported, "the backup in %s was written by a newer version", r.dir)
	case err == nil:
		return false, fault.Newf(fault.Corrupt, "%s does not say what it should; it is damaged, or no backup of this program", path)
	case !errors.Is(err, fs.ErrNotExist):
		return false, unavailable("cannot read the backup in "+r.dir, err)
	case !make:
		return false, fault.Newf(fault.NotFound, "there is no backup in %s", r.dir)
	}
	return true, r.found()
}

// found makes the folders of a repository where nothing else is.
func (r *repository) found() error {
	names, err := r.disk.list(r.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable("cannot make a backup in "+r.dir, err)
	}
	own := []string{packsDir, snapsDir, writerLock, readerLock, formatFile + beginning, "lost+found"}
	for _, n := range names {
		if !slices.Contains(own, n) {
			return fault.Newf(fault.Invalid, "%s has other files in it, like %s; give an empty folder, or one that is not there yet", r.dir, n)
		}
	}
	for _, d := range [...]string{r.dir, r.disk.join(r.dir, packsDir), r.disk.join(r.dir, snapsDir)} {
		if err := r.disk.makeDir(d); err != nil {
			return unavailable("cannot make a backup in "+r.dir, err)
		}
	}
	return nil
}

// lock keeps others from what must not be done at the same time.
func (r *repository) lock(u use) error {
	if u != toRead {
		if err := r.lockOne(writerLock, true, "another backup is being made there"); err != nil {
			return err
		}
	}
	why := "it is being pruned"
	if u == toPrune {
		why = "it is being read"
	}
	return r.lockOne(readerLock, u == toPrune, why)
}

func (r *repository) lockOne(base string, alone bool, why string) error {
	release, err := r.disk.Lock(r.disk.join(r.dir, base), alone)
	if fault.Is(err, fault.Busy) {
		return fault.Newf(fault.Busy, "the backup in %s is in use: %s", r.dir, why)
	}
	if err != nil {
		return unavailable("cannot lock the backup in "+r.dir, err)
	}
	r.unlock = append(r.unlock, release)
	return nil
}

// load reads what there is. Who writes clears away what others have begun and not
// finished.
func (r *repository) load(clear bool) error {
	dir := r.disk.join(r.dir, packsDir)
	names, err := r.disk.list(dir)
	if err != nil {
		return unavailable("cannot read the backup in "+r.dir, err)
	}
	for _, n := range names {
		if clear && n == newPack {
			if err := r.disk.FS.Remove(r.disk.join(dir, n)); err != nil {
				return writing(err)
			}
		}
		if !strings.HasSuffix(n, packEnding) {
			continue
		}
		objects, err := readIndex(r.disk, r.disk.join(dir, n))
		if fault.Is(err, fault.Corrupt) {
			r.bad = append(r.bad, Problem{r.disk.join(packsDir, n), fault.Say(err)})
			continue
		}
		if err != nil {
			return err
		}
		r.take(n, objects)
	}
	r.whole = len(r.bad) == 0 && r.knowsAll()
	return nil
}

// take enters the objects of a pack into the index.
func (r *repository) take(pack string, objects []packed) {
	number := uint32(len(r.packs))
	r.packs = append(r.packs, pack)
	for i := range objects {
		o := &objects[i]
		if o.kind == kindHole {
			continue
		}
		s := spot{number, o.off, o.size, sumStart(o.sum)}
		if _, twice := r.index[o.object]; twice {
			r.more[o.object] = append(r.more[o.object], s)
			continue
		}
		r.index[o.object] = s
		if len(o.needs) > 0 {
			r.needs[o.name] = o.needs
		}
	}
}

// knowsAll tells whether all packs are there that were when this was last noted.
func (r *repository) knowsAll() bool {
	text, err := r.disk.read(r.disk.join(r.dir, knownFile))
	if err != nil {
		return false
	}
	there := map[string]bool{}
	for _, p := range r.packs {
		there[p] = true
	}
	names, sum, ok := strings.Cut(string(text), "\n\n")
	if !ok || sum != hexSum([]byte(names))+"\n" {
		return false
	}
	for _, p := range strings.Fields(names) {
		if !there[p] {
			return false
		}
	}
	return true
}

// noteKnown notes which packs there are, but for some.
func (r *repository) noteKnown(but ...string) error {
	names := strings.Join(slices.DeleteFunc(slices.Clone(r.packs), func(n string) bool { return n == "" || slices.Contains(but, n) }), "\n")
	return r.disk.write(r.disk.join(r.dir, knownFile), fmt.Appendf(nil, "%s\n\n%s\n", names, hexSum([]byte(names))))
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// copies returns where an object lies.
func (r *repository) copies(o object) []spot {
	s, ok := r.index[o]
	if !ok {
		return nil
	}
	return append([]spot{s}, r.more[o]...)
}

func missing(o object) error {
	return fault.Newf(fault.Corrupt, "the backup lacks the %s", o)
}

// storedAt returns the stored bytes of an object of limited size, checked.
func (r *repository) storedAt(s spot) ([]byte, error) {
	f, err := r.disk.FS.Open(r.path(s.pack))
	if err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	defer f.Close()
	b := make([]byte, s.size)
	if _, err := f.ReadAt(b, s.off); err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	if sum := sha256.Sum256(b); binary.BigEndian.Uint64(sum[:]) != s.sum {
		return nil, damagedIn(r.packs[s.pack])
	}
	return b, nil
}

func damagedIn(pack string) error {
	return fault.Newf(fault.Corrupt, "the pack %s of the backup is damaged", pack)
}

func (r *repository) path(pack uint32) string {
	return r.disk.join(r.dir, packsDir, r.packs[pack])
}

// content returns what a chunk or tree says, checked against its name.
func (r *repository) content(o object) ([]byte, error) {
	err := missing(o)
	for _, s := range r.copies(o) {
		var b []byte
		if b, err = r.storedAt(s); err == nil {
			b, err = r.unpack(o, b)
		}
		if err == nil {
			return b, nil
		}
	}
	return nil, err
}

func (r *repository) unpack(o object, stored []byte) ([]byte, error) {
	b, err := r.dec.DecodeAll(stored, nil)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "an object in the backup cannot be uncompressed", err)
	}
	if sha256.Sum256(b) != o.name {
		return nil, fault.Newf(fault.Corrupt, "an object in the backup is not the one that it is called, %s", o.name)
	}
	return b, nil
}

func (r *repository) tree(n name) (*tree, error) {
	b, err := r.content(object{kindTree, n})
	if err != nil {
		return nil, err
	}
	return readTree(b)
}

func (r *repository) chunk(n name) ([]name, []entry, error) {
	b, err := r.content(object{kindChunk, n})
	if err != nil {
		return nil, nil, err
	}
	return readChunk(b)
}

// sound tells whether some copy of an object can be read, by reading it.
func (r *repository) sound(o object) bool {
	for _, s := range r.copies(o) {
		if r.check(s) == nil {
			return true
		}
	}
	return false
}

// check reads one copy of an object, whatever its size.
func (r *repository) check(s spot) error {
	f, err := r.disk.FS.Open(r.path(s.pack))
	if err != nil {
		return unavailable("cannot read the backup", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, s.off, s.size)); err != nil {
		return unavailable("cannot read the backup", err)
	}
	if binary.BigEndian.Uint64(sum.Sum(nil)) != s.sum {
		return damagedIn(r.packs[s.pack])
	}
	return nil
}

// section is n bytes of an object's stored bytes from off on.
func (r *repository) section(s spot, off, n int64) (io.ReadCloser, error) {
	f, err := r.disk.FS.Open(r.path(s.pack))
	if err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	sec := &section{file: f, r: io.NewSectionReader(f, s.off+off, n), pack: r.packs[s.pack], left: n}
	if off == 0 && n == s.size {
		sec.sum, sec.want = sha256.New(), s.sum
	}
	return sec, nil
}

// section reads a part of a pack. Of a whole object it checks the sum before it gives the
// last bytes, for some readers do not ask for the end.
type section struct {
	file io.Closer
	r    io.Reader
	pack string
	left int64
	sum  hash.Hash // nil: it is not a whole one
	want uint64
}

func (s *section) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.left -= int64(n)
	if s.sum != nil {
		s.sum.Write(b[:n])
		if s.left == 0 && binary.BigEndian.Uint64(s.sum.Sum(nil)) != s.want {
			return 0, damagedIn(s.pack)
		}
	}
	if err == io.EOF && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		err = unavailable("cannot read the backup", err)
	}
	return n, err
}

func (s *section) Close() error { return s.file.Close() }
