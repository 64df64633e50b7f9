package backup

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/test/promise"
)

// repositoryFiles are all files of a repository that say something, with their bytes.
func repositoryFiles(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == writerLock || d.Name() == readerLock {
			return err
		}
		all[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// harm returns b damaged in one of the ways in which disks do it; nil is a file that is gone.
func harm(rng *rand.Rand, b []byte) (what string, out []byte) {
	out = bytes.Clone(b)
	at := rng.IntN(len(b))
	switch rng.IntN(6) {
	case 0, 1:
		bit := rng.IntN(8)
		out[at] ^= 1 << bit
		return fmt.Sprintf("bit %d of byte %d turned", bit, at), out
	case 2:
		return fmt.Sprintf("cut at %d", at), out[:at]
	case 3:
		at &^= 511
		for i := at; i < min(at+512, len(out)); i++ {
			out[i] = 0
		}
		return fmt.Sprintf("512 bytes zeroed at %d", at), out
	case 4:
		return "bytes added", append(out, byte(rng.Uint32()))
	}
	return "removed", nil
}

// findings tells how a verification of a repository ends: what it reports, and whether it
// refuses to begin.
func findings(d Disk, dir string) (n int, err error) {
	_, err = Verify(ctx, d, dir, func(Problem) { n++ }, nil)
	return n, err
}

// Whatever happens to a byte of a repository, a verification finds it. Of snapshots that
// are gone nobody knows.
func TestDamageIsFound(t *testing.T) {
	w := populated(t, "carol", "dave")
	dir := t.TempDir()
	for i := range uint64(3) {
		w.mixed(t, "carol", 12, i)
		w.mixed(t, "dave", 4, i)
		w.save(t, dir, SaveOptions{})
	}
	clean(t, dir)
	files := repositoryFiles(t, dir)
	names := sortedKeys(files)
	trials := promise.Times(t, "R16_DAMAGE", 400, 20_000)
	harmed, silent := 0, 0
	for seed := range uint64(trials) {
		rng := rand.New(rand.NewPCG(seed, 5))
		path := names[rng.IntN(len(names))]
		what, now := harm(rng, files[path])
		if bytes.Equal(now, files[path]) && now != nil || now == nil && filepath.Ext(path) == snapEnding {
			continue
		}
		harmed++
		put(t, path, now)
		n, err := findings(disk, dir)
		if n == 0 && !refused(err) {
			silent++
			t.Errorf("seed %d: %s: %s: not found (%v)", seed, filepath.Base(path), what, err)
		}
		put(t, path, files[path])
	}
	clean(t, dir)
	promise.Kept(t, "R16", "damages", harmed, "not found", silent)
}

// refused tells an error that says what is wrong from one that comes of it.
func refused(err error) bool {
	return fault.Is(err, fault.Corrupt) || fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unsupported)
}

func put(t testing.TB, path string, b []byte) {
	t.Helper()
	var err error
	if b == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sortedKeys(m map[string][]byte) (names []string) {
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// A body or chunk that is damaged is never given out for mail.
func TestDamageIsNotRestored(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 12, 1)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	want := texts(content(t, w.account(t, "carol")))
	files := repositoryFiles(t, dir)
	hurt := 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 6))
		for path, b := range files {
			if filepath.Ext(path) != packEnding {
				continue
			}
			now := bytes.Clone(b)
			now[rng.IntN(len(now))] ^= 1 << rng.IntN(8)
			put(t, path, now)
			if got, err := wholeTexts(t, dir); err == nil {
				for text, n := range got {
					if n > want[text] {
						t.Errorf("seed %d: a message that was never there: %.80q", seed, text)
					}
				}
			} else {
				hurt++
			}
			put(t, path, b)
		}
	}
	if hurt == 0 {
		t.Error("no damage hurt")
	}
}

// wholeTexts restores what can be restored and returns what messages there are.
func wholeTexts(t testing.TB, dir string) (map[string]int, error) {
	o, err := Open(disk, dir, time.Time{})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	eng := inMemory(t)
	defer eng.Close()
	lost := false
	if _, err := o.Whole(ctx, eng, RestoreOptions{Problem: func(Problem) { lost = true }}); err != nil || lost {
		return nil, fmt.Errorf("lost %v, %w", lost, err)
	}
	return texts(content(t, newWorldOn(t, eng).account(t, "carol"))), nil
}

// A full backup heals what is damaged as long as the server has it.
func TestFullHeals(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 12, 1)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	for path, b := range repositoryFiles(t, dir) {
		if filepath.Ext(path) == packEnding {
			b[len(b)/3] ^= 4
			put(t, path, b)
		}
	}
	if n, err := findings(disk, dir); n == 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if s := w.save(t, dir, SaveOptions{}); s.Objects != 0 {
		t.Errorf("a usual backup looked at what is stored: %+v", s)
	}
	problems := 0
	s, err := w.Save(ctx, dir, SaveOptions{Full: true, Problem: func(Problem) { problems++ }})
	w.must(t, err)
	if s.Objects == 0 || problems == 0 {
		t.Errorf("%+v, %d problems", s, problems)
	}
	elsewhere(t, dir, time.Time{}).verify(t)
	if _, err := Prune(ctx, disk, dir, Keep{Last: 1}, w.clock, false); err != nil {
		t.Fatal(err)
	}
	clean(t, dir)
	elsewhere(t, dir, time.Time{}).verify(t)
}

// A pack that has gone: the next backup stores again what it held.
func TestLostPackIsReplaced(t *testing.T) {
	w := populated(t, "carol")
	w.mixed(t, "carol", 12, 1)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	for path := range repositoryFiles(t, dir) {
		if filepath.Ext(path) == packEnding {
			put(t, path, nil)
		}
	}
	if n, err := findings(disk, dir); n == 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	w.save(t, dir, SaveOptions{})
	clean(t, dir)
	elsewhere(t, dir, time.Time{}).verify(t)
}
