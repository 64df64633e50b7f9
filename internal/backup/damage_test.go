package backup

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
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

// What is damaged is never given out for mail, and costs no more than what lies in it: all
// that is told to be there is as it was, and the rest comes back.
func TestDamageIsNotRestored(t *testing.T) {
	w := populated(t, "carol", "dave")
	w.mixed(t, "carol", 12, 1)
	w.mixed(t, "dave", 12, 2)
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	want := map[string]map[string]int{}
	for _, n := range []string{"carol", "dave"} {
		want[n] = texts(content(t, w.account(t, n)))
	}
	files := repositoryFiles(t, dir)
	hurt, nothing := 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 6))
		for _, path := range sortedKeys(files) {
			if filepath.Ext(path) != packEnding {
				continue
			}
			now := bytes.Clone(files[path])
			now[rng.IntN(len(now))] ^= 1 << rng.IntN(8)
			put(t, path, now)
			problems, got, err := wholeTexts(t, dir)
			switch {
			case fault.Is(err, fault.Corrupt): // the directory, or the index of the only pack
				nothing++
			case err != nil:
				t.Fatalf("seed %d: %v", seed, err)
			default:
				harmless := true
				for who := range want {
					harmless = compareTexts(t, seed, problems, got[who], want[who]) && harmless
				}
				if hurt += problems; problems > 1 && harmless {
					t.Errorf("seed %d: one bit is %d problems and harms nothing", seed, problems)
				}
			}
			put(t, path, files[path])
		}
	}
	if hurt == 0 || nothing > 20 {
		t.Errorf("%d damages hurt, %d times nothing came back", hurt, nothing)
	}
}

// compareTexts looks whether what came back of an account is what was there, and is all if
// there is no problem.
func compareTexts(t testing.TB, seed uint64, problems int, got, want map[string]int) (all bool) {
	t.Helper()
	all = true
	for text, n := range got {
		if n > want[text] {
			t.Errorf("seed %d: a message that was never there: %.80q", seed, text)
		}
	}
	for text, n := range want {
		if all = all && got[text] == n; got[text] < n && problems == 0 {
			t.Errorf("seed %d: no problem, and this is not there: %.80q", seed, text)
		}
	}
	return all
}

// wholeTexts restores what can be restored and returns how many problems that had, and what
// messages each account has that can be read.
func wholeTexts(t testing.TB, dir string) (problems int, got map[string]map[string]int, err error) {
	o, err := Open(disk, dir, time.Time{})
	if err != nil {
		return 0, nil, err
	}
	defer o.Close()
	eng := inMemory(t)
	defer eng.Close()
	done, err := o.Whole(ctx, eng, RestoreOptions{Problem: func(Problem) { problems++ }})
	if err != nil {
		return 0, nil, err
	}
	if int(done.Failed) != problems {
		t.Errorf("%d problems, %d failed", problems, done.Failed)
	}
	w := newWorldOn(t, eng)
	if _, err := Depart(ctx, w.Store, w.Directory, RestoreOptions{}); err != nil {
		return 0, nil, err
	}
	got = map[string]map[string]int{}
	for _, n := range []string{"carol", "dave"} {
		got[n] = readable(w.account(t, n))
	}
	return problems, got, nil
}

// readable counts the messages of an account that can be read, by their text.
func readable(a *store.Account) map[string]int {
	n := map[string]int{}
	var boxes []store.Mailbox
	_ = a.View(ctx, func(s *store.Snapshot) (err error) { boxes, err = s.Mailboxes(); return err })
	for _, b := range boxes {
		pic, err := a.Picture(ctx, b.ID)
		if err != nil {
			continue
		}
		for _, m := range pic.Messages(store.All()) {
			r, err := a.Open(ctx, m.ID, 0, -1)
			if err != nil {
				continue
			}
			if text, err := io.ReadAll(r); err == nil {
				n[string(text)]++
			}
			r.Close()
		}
	}
	return n
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
