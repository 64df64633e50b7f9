package backup

import (
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

func (w *world) shardOf(t testing.TB, name string) engine.Shard {
	t.Helper()
	a, err := w.Directory.Lookup(ctx, addr(name))
	w.must(t, err)
	return store.ShardOf(a.ID)
}

// told gathers problems.
type told []string

func (l *told) add(p Problem) { *l = append(*l, p.What) }

// A record that is damaged in the store is told of by each backup and stored as it is; the
// rest of the server is saved.
func TestDamagedRecordOfTheStore(t *testing.T) {
	w := populated(t, "a", "b")
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []string{"a", "b"} {
		w.append(t, n, "INBOX", letter(rng, "one", 9000), 0)
		w.append(t, n, "INBOX", letter(rng, "two", 9000), 0)
	}
	w.must(t, w.Engine.Update(ctx, w.shardOf(t, "b"), func(wr engine.Writer) error {
		key := engine.Key('f', 1) // facts of the first message
		v, _, err := wr.Get(key)
		if err != nil {
			return err
		}
		v = append([]byte(nil), v...)
		v[len(v)/2] ^= 1
		return wr.Put(key, v)
	}))
	want := texts(content(t, w.account(t, "a")))
	dir := t.TempDir()
	for range 2 { // the second could take all over
		var problems told
		s, err := w.Save(ctx, dir, SaveOptions{Problem: problems.add})
		if err != nil || s.Lost != 1 || len(problems) != 1 || !strings.Contains(problems[0], "b@example.org") {
			t.Fatalf("%+v, %q, %v", s, problems, err)
		}
	}
	clean(t, dir)
	eng := inMemory(t)
	o, err := Open(disk, dir, time.Time{})
	w.must(t, err)
	defer o.Close()
	var problems told
	_, err = o.Whole(ctx, eng, RestoreOptions{Problem: problems.add})
	w.must(t, err)
	if len(problems) != 1 || !strings.Contains(problems[0], "b@example.org was damaged when it was saved") {
		t.Errorf("restoring: %q", problems)
	}
	e := newWorldOn(t, eng)
	got := texts(content(t, e.account(t, "a")))
	for text := range want {
		if got[text] == 0 {
			t.Error("a message of another account is not there")
		}
	}
	r, err := e.account(t, "b").Open(ctx, 2, 0, -1)
	e.must(t, err)
	r.Close()
}

// spoil damages an object in its pack.
func spoil(t testing.TB, dir string, at engine.Shard, what func(*tree) object) {
	t.Helper()
	o, err := Open(disk, dir, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	tr, err := o.tree(at)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := o.repo.index[what(tr)]
	if !ok {
		t.Fatal("no such object")
	}
	path := o.repo.path(s.pack)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[s.off+s.size/2] ^= 1
	put(t, path, b)
}

// A chunk that is damaged, or a list of them, costs what is in it: it is told of with the
// account, and all else comes back.
func TestDamagedPartCostsNoMore(t *testing.T) {
	first := func(tr *tree) object { return object{kindChunk, tr.chunks[0].name} }
	last := func(tr *tree) object { return object{kindChunk, tr.chunks[len(tr.chunks)-1].name} }
	list := func(tr *tree) object { return object{kindTree, treeName(tr)} }
	for what, hurt := range map[string]struct {
		shard func(*testing.T, *world) engine.Shard
		of    func(*tree) object
		says  string
	}{
		"a first chunk":     {shardOfB, first, "b@example.org"},
		"a last chunk":      {shardOfB, last, "b@example.org"},
		"a list of chunks":  {shardOfB, list, "b@example.org"},
		"the registry":      {func(*testing.T, *world) engine.Shard { return store.RegistryShard }, first, "records of the server"},
		"the queue's chunk": {func(*testing.T, *world) engine.Shard { return store.QueueShard }, list, "the queue"},
	} {
		t.Run(what, func(t *testing.T) {
			w := populated(t, "a", "b", "c")
			for i, n := range []string{"a", "b", "c"} {
				w.mixed(t, n, 30, uint64(i))
			}
			dir := t.TempDir()
			w.save(t, dir, SaveOptions{})
			spoil(t, dir, hurt.shard(t, w), hurt.of)
			eng := inMemory(t)
			o, err := Open(disk, dir, time.Time{})
			w.must(t, err)
			defer o.Close()
			var problems told
			done, err := o.Whole(ctx, eng, RestoreOptions{Problem: problems.add})
			if err != nil || done.Failed != 1 || len(problems) != 1 || !strings.Contains(problems[0], hurt.says) {
				t.Fatalf("%+v, %q, %v", done, problems, err)
			}
			e := newWorldOn(t, eng)
			_, err = Depart(ctx, e.Store, e.Directory, RestoreOptions{})
			w.must(t, err)
			for _, n := range []string{"a", "c"} {
				sameContent(t, n, apart(content(t, e.account(t, n))), apart(content(t, w.account(t, n))))
			}
			ids, err := e.Store.Accounts(ctx)
			if err != nil || len(ids) != 3 {
				t.Errorf("%v are noted to have data, %v", ids, err)
			}
		})
	}
}

func shardOfB(t *testing.T, w *world) engine.Shard { return w.shardOf(t, "b") }

func treeName(tr *tree) name { return sha256.Sum256(tr.encode()) }

// Without the whole list of accounts nothing is restored, and the reason is told first.
func TestDamagedDirectory(t *testing.T) {
	w := populated(t, "a")
	dir := t.TempDir()
	w.save(t, dir, SaveOptions{})
	spoil(t, dir, store.DirectoryShard, func(tr *tree) object { return object{kindChunk, tr.chunks[0].name} })
	o, err := Open(disk, dir, time.Time{})
	w.must(t, err)
	defer o.Close()
	eng := inMemory(t)
	defer eng.Close()
	if done, err := o.Whole(ctx, eng, RestoreOptions{}); !fault.Is(err, fault.Corrupt) || !strings.Contains(fault.Say(err), "--at") || done.Accounts != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

// A newest snapshot that is damaged is not passed over silently: the one before is asked for
// by its time.
func TestDamagedNewestSnapshot(t *testing.T) {
	w := populated(t, "a")
	dir := t.TempDir()
	before := w.save(t, dir, SaveOptions{})
	w.save(t, dir, SaveOptions{})
	list, _ := filepath.Glob(filepath.Join(dir, snapsDir, "*"))
	b, err := os.ReadFile(list[1])
	w.must(t, err)
	b[20] ^= 1
	put(t, list[1], b)
	_, err = Open(disk, dir, time.Time{})
	if !fault.Is(err, fault.Corrupt) || !strings.Contains(fault.Say(err), before.Time.Format(time.RFC3339Nano)) {
		t.Errorf("the newest is damaged: %v", err)
	}
	o, err := Open(disk, dir, before.Time)
	w.must(t, err)
	defer o.Close()
	if !o.Info().Time.Equal(before.Time) {
		t.Errorf("asked for %v, got %v", before.Time, o.Info().Time)
	}
}

// Days are counted without an overflow.
func TestPruneManyDays(t *testing.T) {
	w := populated(t, "a")
	dir := t.TempDir()
	for range 4 {
		w.save(t, dir, SaveOptions{})
		w.clock = w.clock.Add(30 * 24 * time.Hour)
	}
	for _, days := range []int{100_000, 106_751, 106_752, 213_504, 999_999, 1<<63 - 1, MostDays, MostDays - 1} {
		p, err := Prune(ctx, disk, dir, Keep{Days: days}, w.clock, true)
		if err != nil || len(p.Removed) != 0 {
			t.Errorf("%d days: %+v, %v", days, p, err)
		}
	}
	if p, err := Prune(ctx, disk, dir, Keep{Days: 100}, w.clock, true); err != nil || len(p.Removed) != 1 {
		t.Errorf("100 days: %+v, %v", p, err)
	}
}

// A snapshot that a wrong clock has dated ahead is told of: --at finds those after it by
// its time, not by theirs.
func TestSnapshotDatedAhead(t *testing.T) {
	w := populated(t, "a")
	dir := t.TempDir()
	now := w.clock
	w.clock = now.Add(1000 * time.Hour)
	ahead := w.save(t, dir, SaveOptions{})
	w.clock = now
	var problems told
	s, err := w.Save(ctx, dir, SaveOptions{Problem: problems.add})
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0], ahead.Time.Format(time.RFC3339)) || !s.Time.After(ahead.Time) {
		t.Errorf("%v, %q, %v", s.Time, problems, err)
	}
	clean(t, dir)
}
