package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// cutStore is a store that was closed, file by file.
type cutStore struct {
	t     *testing.T
	files map[string][]byte
	old   string // the table with nearly all records
	newer string // one with a deletion of a range, and little else
	blob  string // the file with all bodies
	data  int    // bytes of the data blocks of old, which lie at its beginning
	all   map[string]string
}

func endsOptions(fs vfs.FS) Options {
	return Options{FS: fs, Now: time.Now, MemTableBytes: 4 << 20, CacheBytes: 1 << 20, ReserveBytes: -1, rest: time.Hour}
}

const endsBodies = 40

func bodyRef(n uint64) (ref mail.BlobRef) {
	binary.BigEndian.PutUint64(ref[:], n*0x9e3779b97f4a7c15)
	return ref
}

func newCutStore(t *testing.T) *cutStore {
	t.Helper()
	fs := vfs.NewMem()
	e, err := Open("data", endsOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 39))
	value := make([]byte, 200)
	for n := range uint64(1000) {
		must(e.Update(ctx, 7, func(w engine.Writer) error {
			for i := range value {
				value[i] = byte(rng.Uint32())
			}
			return w.Put(engine.Key('m', n), value)
		}))
	}
	for n := range uint64(endsBodies) {
		body := bytes.Repeat([]byte(fmt.Sprint("body ", n, " ")), 300)
		must(e.Blobs().Put(ctx, bodyRef(n), int64(len(body)), bytes.NewReader(body)))
	}
	must(e.db.Flush())
	must(e.db.Compact(ctx, []byte{0}, []byte{255}, false))
	must(e.Update(ctx, 7, func(w engine.Writer) error {
		must(w.Put(engine.Key('z', 1), []byte("last")))
		return w.DeleteRange(engine.Key('m', 100), engine.Key('m', 200))
	}))
	must(e.db.Flush())
	must(e.Close())
	s := &cutStore{t: t, files: filesOf(t, fs)}
	for name, b := range s.files {
		if strings.HasSuffix(name, ".blob") {
			s.blob = name
		}
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		if s.old == "" || len(b) > len(s.files[s.old]) {
			s.old = name
		}
	}
	for name := range s.files {
		if strings.HasSuffix(name, ".sst") && name > s.old {
			s.newer = name
		}
	}
	if s.newer == "" || s.blob == "" || len(s.files[s.old]) < 100<<10 {
		t.Fatalf("tables %q and %q, blob file %q", s.old, s.newer, s.blob)
	}
	s.data = dataOf(t, s.files[s.old])
	s.all, _ = s.repaired(s.files)
	if len(s.all) != 901+endsBodies {
		t.Fatalf("%d records", len(s.all))
	}
	return s
}

// filesOf reads the files of a store.
func filesOf(t *testing.T, fs vfs.FS) map[string][]byte {
	t.Helper()
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		if files[name], err = readWhole(fs, "data/"+name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// layoutOf returns where the blocks of a table lie.
func layoutOf(t *testing.T, b []byte) *sstable.Layout {
	t.Helper()
	readable, err := sstable.NewSimpleReadable(vfs.NewMemFile(bytes.Clone(b)))
	if err != nil {
		t.Fatal(err)
	}
	opts := new(db.Options)
	opts.EnsureDefaults()
	r, err := sstable.NewReader(ctx, readable, opts.MakeReaderOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := r.Layout()
	if err != nil || len(l.Data) < 10 {
		t.Fatalf("%d blocks, %v", len(l.Data), err)
	}
	return l
}

// dataOf returns how many of the first bytes of a table are data.
func dataOf(t *testing.T, b []byte) int {
	t.Helper()
	return int(layoutOf(t, b).Index[0].Offset)
}

// with returns the files with another content of one, or without it.
func (s *cutStore) with(name string, b []byte) map[string][]byte {
	files := maps.Clone(s.files)
	if files[name] = b; b == nil {
		delete(files, name)
	}
	return files
}

func (s *cutStore) disk(files map[string][]byte) vfs.FS {
	fs := vfs.NewMem()
	for name, b := range files {
		_ = fs.MkdirAll("data", 0o700)
		f, err := fs.Create("data/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			s.t.Fatal(err)
		}
		_, _ = f.Write(bytes.Clone(b))
		_ = f.Close()
	}
	return fs
}

// repaired repairs the store and returns all that is in it.
func (s *cutStore) repaired(files map[string][]byte) (map[string]string, Salvaged) {
	s.t.Helper()
	fs := s.disk(files)
	done, err := Repair(ctx, "data", "quarantine/now/data", endsOptions(fs), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := Open("data", endsOptions(fs))
	if err != nil {
		s.t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Check(ctx, func(file, what string) { s.t.Errorf("afterwards %s %s", file, what) }); err != nil {
		s.t.Fatal(err)
	}
	all := map[string]string{}
	if err := e.View(ctx, 7, func(r engine.Reader) error {
		return r.Scan(nil, nil, false, func(k, v []byte) bool { all[string(k)] = string(v); return true })
	}); err != nil {
		s.t.Fatal(err)
	}
	for n := range uint64(endsBodies) {
		r, err := e.Blobs().Open(ctx, bodyRef(n), 0, -1)
		if err != nil {
			continue
		}
		if b, err := io.ReadAll(r); err == nil {
			all[fmt.Sprint("blob ", n)] = string(b)
		}
		_ = r.Close()
	}
	return all, done
}

// same compares what is there with what is to be.
func (s *cutStore) same(what string, got, want map[string]string) {
	s.t.Helper()
	if !maps.Equal(got, want) {
		s.t.Errorf("%s: %d records and not %d, or others", what, len(got), len(want))
	}
}

// told checks that each record that is not there lies in a range that is told.
func (s *cutStore) told(what string, got map[string]string, holes []Hole) {
	s.t.Helper()
	for key := range s.all {
		if _, ok := got[key]; ok {
			continue
		}
		if !slices.ContainsFunc(holes, func(h Hole) bool {
			if isBody := strings.HasPrefix(key, "blob "); h.Bodies || isBody {
				return h.Bodies && isBody
			}
			return bytes.Compare(h.From.Key, []byte(key)) <= 0 && (h.To.Shard > 7 || bytes.Compare([]byte(key), h.To.Key) < 0)
		}) {
			s.t.Fatalf("%s: nobody says that %q is lost: %+v", what, key, holes)
		}
	}
}

// A table that was cut gives all records whose blocks are there: as many as one of which just
// the data behind the cut is damaged. Cut behind its data it gives all.
func TestR34CutTable(t *testing.T) {
	s := newCutStore(t)
	whole := s.files[s.old]
	few := len(s.all)
	for at := len(whole) * 3 / 4 / 512 * 512; at < len(whole); at += 512 {
		what := fmt.Sprintf("cut at %d of %d", at, len(whole))
		got, done := s.repaired(s.with(s.old, whole[:at]))
		s.told(what, got, done.Holes)
		want := s.all
		if at < s.data {
			hurt := bytes.Clone(whole)
			clear(hurt[at:s.data])
			want, _ = s.repaired(s.with(s.old, hurt))
		}
		s.same(what, got, want)
		if few = min(few, len(got)); len(got) < 600 {
			t.Errorf("%s: %d records are left", what, len(got))
		}
	}
	if few == len(s.all) {
		t.Error("no cut took a record")
	}
	for at := 0; at < len(whole); at += len(whole) / 8 {
		got, done := s.repaired(s.with(s.old, whole[:at]))
		s.told(fmt.Sprintf("cut at %d", at), got, done.Holes)
	}
}

// Damage behind the data, in as many bits as may be, does no harm, not in a blob file either.
func TestR34EndIsPutBack(t *testing.T) {
	s := newCutStore(t)
	foot := func(b []byte) {
		for i := range 20 {
			b[len(b)-3*i-1] ^= byte(i + 1)
		}
	}
	for what, hurt := range map[string]func(b []byte){
		"footer flipped": foot,
		"footer zeroed":  func(b []byte) { clear(b[len(b)-61:]) },
		"index zeroed":   func(b []byte) { clear(b[s.data : s.data+100]) },
		"end zeroed":     func(b []byte) { clear(b[s.data:]) },
	} {
		b := bytes.Clone(s.files[s.old])
		hurt(b)
		got, done := s.repaired(s.with(s.old, b))
		s.same(what, got, s.all)
		if len(done.Damaged) != 1 || len(done.Holes) > 0 || what != "end zeroed" && !slices.Contains(done.Turned, s.old) {
			t.Errorf("%s: %+v", what, done)
		}
		unlisted := s.with(s.old, b) // a power cut took the checksums
		delete(unlisted, sumsName)
		got, done = s.repaired(unlisted)
		if s.same(what+", without a checksum", got, s.all); len(done.Holes) > 0 {
			t.Errorf("%s, without a checksum: %+v", what, done)
		}
	}
	b := bytes.Clone(s.files[s.blob])
	foot(b)
	got, done := s.repaired(s.with(s.blob, b))
	if s.same("blob file", got, s.all); !slices.Contains(done.Turned, s.blob) {
		t.Errorf("blob file: %+v", done)
	}
	for at := len(b) - 100; at > 0; at -= len(b) / 8 {
		got, done := s.repaired(s.with(s.blob, b[:at]))
		s.told(fmt.Sprintf("blob file cut at %d", at), got, done.Holes)
		if at > len(b)/2 && len(got) == 901 {
			t.Errorf("blob file cut at %d of %d: no body is left", at, len(b))
		}
	}
}

// What a range's deletion took does not come back, be its table without an end, or gone.
func TestR34RangeStaysDeleted(t *testing.T) {
	s := newCutStore(t)
	for what, b := range map[string][]byte{"cut": s.files[s.newer][:200], "zeroed": make([]byte, len(s.files[s.newer])), "gone": nil} {
		got, done := s.repaired(s.with(s.newer, b))
		s.told(what, got, done.Holes)
		for key := range got {
			if _, ok := s.all[key]; !ok {
				t.Fatalf("%s: %q was deleted and is back", what, key)
			}
		}
	}
}

// A copy of an end that is missing, damaged, or of another file is no error: of a store that
// an earlier version wrote there are none. The start makes those that are missing, verify
// also those that are damaged; without them the table is lost, so the tests above see it.
func TestR34EndsMadeAnew(t *testing.T) {
	s := newCutStore(t)
	earlier := maps.Clone(s.files)
	maps.DeleteFunc(earlier, func(name string, _ []byte) bool { return strings.HasSuffix(name, endSuffix) })
	without := maps.Clone(earlier)
	without[s.old] = s.files[s.old][:s.data]
	got, done := s.repaired(without)
	if s.told("without copies", got, done.Holes); len(got) > 100 {
		t.Errorf("without copies %d records are left", len(got))
	}
	stale := s.with(s.old, s.files[s.old][:s.data])
	stale[s.old+endSuffix] = s.files[s.newer+endSuffix]
	got, done = s.repaired(stale)
	s.told("with a copy of another table", got, done.Holes)

	damaged := maps.Clone(s.files)
	for name, b := range s.files {
		if strings.HasSuffix(name, endSuffix) {
			damaged[name] = slices.Concat(b[:len(b)/2], []byte{^b[len(b)/2]}, b[len(b)/2+1:])
		}
	}
	damaged["999999.sst"+endSuffix] = []byte("of nothing")
	for what, files := range map[string]map[string][]byte{"earlier": earlier, "damaged": damaged} {
		fs := s.disk(files)
		e, err := Open("data", endsOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		if what == "damaged" {
			if _, err := e.Check(context.Background(), func(file, what string) { t.Errorf("%s %s", file, what) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		after := filesOf(t, fs)
		for name := range after {
			if of, ok := strings.CutSuffix(name, endSuffix); ok && after[of] == nil {
				t.Errorf("%s: %s is of nothing", what, name)
			}
			if want := s.files[name+endSuffix]; want != nil && !bytes.Equal(after[name+endSuffix], want) {
				t.Errorf("%s: the end of %s is not as it was", what, name)
			}
		}
	}
}
