package backup

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// A snapshot is a file of JSON, one object a line: what it is, its shards, its counts, and
// the SHA-256 of all lines before. It is written last and moved into place whole.

const (
	snapEnding = ".snapshot"
	snapFormat = 1
	snapTime   = "20060102T150405.000Z"
)

// schema is which records a snapshot may hold, by their highest kinds.
type schema struct {
	Store     int `json:"store"`
	Directory int `json:"directory"`
	Queue     int `json:"queue"`
}

func ourSchema() schema {
	return schema{store.NewestRecord, directory.NewestRecord, queue.NewestRecord}
}

type snapHead struct {
	Format  int       `json:"martlet_snapshot"`
	Version string    `json:"version"` // of the program
	Time    time.Time `json:"time"`
	Full    bool      `json:"full"`
	Schema  schema    `json:"records"`
}

// snapShard is one shard of a snapshot.
type snapShard struct {
	Shard    engine.Shard `json:"shard"`
	Tree     string       `json:"tree"`
	Sign     string       `json:"sign,omitempty"` // of an account (store.Sign)
	Records  int64        `json:"records"`
	Messages int64        `json:"messages"`
	Bytes    int64        `json:"bytes"`
}

type snapEnd struct {
	Accounts int      `json:"accounts"`
	Messages int64    `json:"messages"`
	Queued   int64    `json:"queued"`
	Seconds  float64  `json:"seconds"`           // it took
	Objects  int64    `json:"objects"`           // that were new
	Bytes    int64    `json:"bytes"`             // that these take
	Lost     []string `json:"lost,omitempty"`    // bodies that the store did not have any more
	Damaged  int      `json:"damaged,omitempty"` // records that the store itself could not have read
	Line     string   `json:"lineage"`           // which server; another one has another
}

type snapSum struct {
	SHA256 string `json:"sha256"`
}

// snapshot is the content of such a file.
type snapshot struct {
	file   string
	head   snapHead
	shards []snapShard
	end    snapEnd
}

func (s *snapshot) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(s.head)
	for i := range s.shards {
		if err == nil {
			err = e.Encode(s.shards[i])
		}
	}
	if err == nil {
		err = e.Encode(s.end)
	}
	sum := sha256.Sum256(b.Bytes())
	if err == nil {
		err = e.Encode(snapSum{hex.EncodeToString(sum[:])})
	}
	return b.Bytes(), err
}

func snapName(t time.Time) string { return t.UTC().Format(snapTime) + snapEnding }

// readSnapshot reads and checks a snapshot file.
func readSnapshot(d Disk, path string) (*snapshot, error) {
	b, err := d.read(path)
	if err != nil {
		return nil, unavailable("cannot read the backup", err)
	}
	cut := bytes.LastIndexByte(bytes.TrimSuffix(b, []byte("\n")), '\n') + 1
	sum := sha256.Sum256(b[:cut])
	want := fmt.Sprintf("{\"sha256\":\"%x\"}\n", sum)
	if cut == 0 || string(b[cut:]) != want {
		return nil, fault.New(fault.Corrupt, "the snapshot is damaged or cut short")
	}
	s, err := decodeSnapshot(b[:cut])
	if err != nil {
		return nil, err
	}
	if s.file = d.FS.PathBase(path); s.file != snapName(s.head.Time) {
		return nil, fault.New(fault.Corrupt, "the snapshot is not the one that its file is called")
	}
	return s, nil
}

func decodeSnapshot(b []byte) (*snapshot, error) {
	var s snapshot
	lines := bytes.SplitAfter(b, []byte("\n"))
	lines = lines[:len(lines)-1]
	broken := fault.New(fault.Corrupt, "the snapshot is not in a form that this version knows")
	if len(lines) < 2 || json.Unmarshal(lines[0], &s.head) != nil {
		return nil, broken
	}
	if s.head.Format > snapFormat {
		return nil, fault.New(fault.Unsupported, "the snapshot was written by a newer version")
	}
	if s.head.Format < 1 {
		return nil, broken
	}
	for _, l := range lines[1 : len(lines)-1] {
		var sh snapShard
		if json.Unmarshal(l, &sh) != nil || len(sh.Tree) != 2*len(name{}) {
			return nil, broken
		}
		if n := len(s.shards); n > 0 && sh.Shard <= s.shards[n-1].Shard {
			return nil, broken // a shard out of order would not be found, and be taken for an empty one
		}
		s.shards = append(s.shards, sh)
	}
	if json.Unmarshal(lines[len(lines)-1], &s.end) != nil {
		return nil, broken
	}
	return &s, nil
}

// newer tells whether the snapshot may hold what this version does not know.
func (s *snapshot) newer() error {
	had, know := s.head.Schema, ourSchema()
	if had.Store > know.Store || had.Directory > know.Directory || had.Queue > know.Queue {
		return fault.Newf(fault.Unsupported, "the snapshot was made by version %s, whose records this one does not know; restore it with that version or a later one", s.head.Version)
	}
	return nil
}

func (s *snapShard) tree() (n name, err error) {
	b, err := hex.DecodeString(s.Tree)
	if err != nil || len(b) != len(n) {
		return n, fault.New(fault.Corrupt, "the snapshot names a list of chunks wrongly")
	}
	return name(b), nil
}

// account returns which account a shard is of; ok is false of the others.
func (s *snapShard) account() (id mail.AccountID, ok bool) {
	base := store.ShardOf(0)
	return mail.AccountID(s.Shard - base), s.Shard >= base
}

// snapshots returns all snapshots in order of time. Those that cannot be read are problems.
func (r *repository) snapshots() ([]*snapshot, []Problem, error) {
	dir := r.disk.join(r.dir, snapsDir)
	names, err := r.disk.list(dir)
	if err != nil {
		return nil, nil, unavailable("cannot read the backup in "+r.dir, err)
	}
	var all []*snapshot
	var bad []Problem
	for _, n := range names {
		if !strings.HasSuffix(n, snapEnding) {
			continue
		}
		s, err := readSnapshot(r.disk, r.disk.join(dir, n))
		if err != nil {
			bad = append(bad, Problem{r.disk.join(snapsDir, n), fault.Say(err)})
			continue
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *snapshot) int { return a.head.Time.Compare(b.head.Time) })
	return all, bad, nil
}

// Snapshot is what List tells of one.
type Snapshot struct {
	Time     time.Time
	Version  string // of the program that made it
	Full     bool
	Accounts int
	Messages int64
	Queued   int64
	Bytes    int64 // that were new with it
	Lost     int   // bodies that the store did not have any more, and records that are damaged there
}

func (s *snapshot) info() Snapshot {
	return Snapshot{s.head.Time, s.head.Version, s.head.Full, s.end.Accounts, s.end.Messages, s.end.Queued, s.end.Bytes, len(s.end.Lost) + s.end.Damaged}
}

// List returns the snapshots of a repository, in order of time, and files that are none.
func List(d Disk, dir string) ([]Snapshot, []Problem, error) {
	r := &repository{disk: d, dir: dir}
	if _, err := r.format(false); err != nil {
		return nil, nil, err
	}
	all, bad, err := r.snapshots()
	var out []Snapshot
	for _, s := range all {
		out = append(out, s.info())
	}
	return out, bad, err
}

// at returns the newest snapshot that is not after a time; zero is any time.
func (r *repository) at(t time.Time) (*snapshot, error) {
	all, bad, err := r.snapshots()
	if err != nil {
		return nil, err
	}
	for _, s := range slices.Backward(all) {
		if t.IsZero() {
			return s, cmp.Or(r.newest(s, bad), s.newer())
		}
		if !s.head.Time.After(t) {
			return s, s.newer()
		}
	}
	switch {
	case len(all) > 0:
		return nil, fault.Newf(fault.NotFound, "the oldest snapshot in %s is of %s, after the time asked for", r.dir, all[0].head.Time.Format(time.RFC3339))
	case len(bad) > 0:
		return nil, fault.Newf(fault.Corrupt, "no snapshot in %s can be read: %s: %s", r.dir, bad[0].File, bad[0].What)
	}
	return nil, fault.Newf(fault.NotFound, "there is no snapshot in %s", r.dir)
}

// newest fails if a later snapshot than s cannot be read: an earlier one is taken if it is
// asked for by its time.
func (r *repository) newest(s *snapshot, bad []Problem) error {
	for _, p := range slices.Backward(bad) {
		if base := r.disk.FS.PathBase(p.File); base > s.file && len(base) == len(s.file) {
			return fault.Newf(fault.Corrupt, "the newest snapshot cannot be read: %s: %s; to restore the one before, give --at %s",
				p.File, p.What, s.head.Time.Format(time.RFC3339Nano))
		}
	}
	return nil
}
