package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/carry"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/node"
)

func newStoreCopyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "copy --from ENGINE --to ENGINE", Short: "Copy everything into the store of another engine",
		Long: `Copies mail, mailboxes, accounts, the queue and all else from the store of one machine into a
database, or back, reads both again and compares them byte by byte. UIDs and all that mail
programs remember stay, so that none has to fetch anything anew. Whoever stops it may run it
again: it goes on where it stopped, and takes over what has changed.

The configuration names both: the folder "data", and url in [store], with [blobs] if large bodies go
to an object store. Which engine it says does not matter here; it does when the server starts. No server may run on either; until the copy is proved none starts on the
target, and afterwards none on the source. Certificates of an authority (ACME) are taken along; the
stories of messages that "martlet trace" tells stay on the machine.

--dry-run looks how much there is, and whether the object store can be used, by a small object that
it puts there and removes. It changes nothing else.`,
		Example: `  martlet store copy --from pebble --to postgres --dry-run
  martlet store copy --from pebble --to postgres --config /etc/martlet/martlet.toml
  martlet store copy --from postgres --to pebble --json`,
		Args: arguments(0, 0), RunE: copyStore,
	}
	c.Flags().String("from", "", "pebble or postgres")
	c.Flags().String("to", "", "postgres or pebble")
	c.Flags().Bool("dry-run", false, "only look how much there is")
	c.Flags().SortFlags = false
	return c
}

// storeCopy is one run of it.
type storeCopy struct {
	cmd      *cobra.Command
	cfg      *conf.Config
	path     string // of the configuration
	from, to *side
	screen   *copyScreen
}

func copyStore(cmd *cobra.Command, _ []string) error {
	from, _ := cmd.Flags().GetString("from")
	to, _ := cmd.Flags().GetString("to")
	from, err := engineName("--from", from)
	if err != nil {
		return err
	}
	if to, err = engineName("--to", to); err != nil {
		return err
	}
	if from == to {
		return misused("--from and --to are both %s", from)
	}
	cfg, path, err := loadBoth(cmd)
	if err != nil {
		return err
	}
	if err := giveUpRoot(cfg); err != nil {
		return err
	}
	if err := enoughFiles(); err != nil {
		return err
	}
	c := &storeCopy{cmd: cmd, cfg: cfg, path: path, screen: newCopyScreen(cmd)}
	if c.from, err = openSide(cmd.Context(), cfg, from, false, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	defer func() { _ = c.from.close() }()
	dry, _ := cmd.Flags().GetBool("dry-run")
	if _, err := os.Stat(engineDir(cfg)); dry && to == "pebble" && errors.Is(err, fs.ErrNotExist) {
		return c.look(cmd.Context())
	}
	if c.to, err = openSide(cmd.Context(), cfg, to, !dry, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	defer func() { _ = c.to.close() }()
	if dry {
		return c.look(cmd.Context())
	}
	return c.run(cmd.Context())
}

// run copies. The source is closed to servers before the first byte is read, and stays so
// when the copy is proved; if it fails in a way that this process sees, it is as it was before.
func (c *storeCopy) run(ctx context.Context) (err error) {
	mark, before, err := c.begin(ctx)
	if err != nil {
		return err
	}
	proved := false
	defer func() {
		if !proved {
			err = errors.Join(err, c.undo(context.WithoutCancel(ctx), mark, before))
		}
	}()
	for _, s := range []*side{c.from, c.to} {
		if err := s.alone(ctx, c.screen.waits); err != nil {
			return err
		}
	}
	if err := c.from.shut(ctx, mark.closes(c.from.name), c.screen.says); err != nil {
		return err
	}
	if err := c.clearNodes(ctx); err != nil {
		return err
	}
	at, err := carry.Copy(ctx, c.from.engine, c.to.engine, carry.Options{
		Source: c.from.where, Leave: passing, Progress: c.screen.progress,
		Begun: func(ctx context.Context) error {
			return c.to.shut(ctx, partCloses(c.to.name, c.from.where), c.screen.says)
		},
		Proved: func(ctx context.Context) (err error) {
			proved, err = c.prove(ctx, mark)
			return err
		},
	})
	c.screen.clear()
	if fault.Is(err, fault.Exists) {
		return failed("the %s store in %s is not empty, and holds no copy of %s that was cut short; %s", c.to.name, c.to.where, c.from.where, makeRoom(c.to))
	}
	if err != nil {
		return err
	}
	mark.Done, mark.At = true, time.Now()
	err = errors.Join(c.from.shut(ctx, mark.closes(c.from.name), func(string) {}), setMark(ctx, c.to.engine, provedKey, nil))
	return errors.Join(err, c.tell(at))
}

// undo opens the source again, unless another run has marked it, before or since.
func (c *storeCopy) undo(ctx context.Context, mark sourceMark, before *sourceMark) error {
	m, err := readMarks(ctx, c.from.engine)
	if err == nil && before == nil && m.source != nil && m.source.Run == mark.Run {
		err = c.from.reopen(ctx)
	}
	if err != nil {
		return err
	}
	_, err = swapMark(ctx, c.from.engine, mark.Run, before)
	return err
}

// begin marks the source as this run's. It returns what is to stand there again if the run
// fails: the mark of another run, which may be under way, too; nil is for none.
func (c *storeCopy) begin(ctx context.Context) (mark sourceMark, before *sourceMark, err error) {
	proved, err := c.provedBy(ctx)
	if err != nil {
		return mark, nil, err
	}
	mark = sourceMark{To: c.to.name, At: time.Now(), Run: rand.Text()}
	err = c.from.engine.Update(ctx, carry.Shard, func(w engine.Writer) error {
		now, err := readSourceMark(w)
		switch {
		case err != nil:
			return err
		case now != nil && now.Done && (proved == "" || proved != now.Run):
			return failed("the %s store was copied to %s on %s already; if the copy is to be made anew: martlet store reopen %s", c.from.name, now.To, localTime(now.At), c.from.name)
		}
		if _, there, err := w.Get(restoreKey); err != nil || there {
			return cmp.Or(err, failed("%s", restoreCloses(c.from.name)))
		}
		if _, there, err := w.Get(mendingKey); err != nil || there { // the copy would not be known as half repaired
			return cmp.Or(err, failed("%s", mendingCloses(c.from.name)))
		}
		before = now
		return w.Put(sourceKey, mark.encode())
	})
	if c.from.name == "pebble" && before != nil && !before.Done {
		before = nil // whoever set it is dead: the lock of a folder says so
	}
	return mark, before, err
}

// provedBy returns the run that has proved the copy on the target and was cut short before its
// end; "" if none was.
func (c *storeCopy) provedBy(ctx context.Context) (run string, err error) {
	if _, unfinished, err := carry.Unfinished(ctx, c.to.engine); err != nil || !unfinished {
		return "", err
	}
	err = c.to.engine.View(ctx, carry.Shard, func(r engine.Reader) error {
		value, _, err := r.Get(provedKey)
		run = string(value)
		return err
	})
	return run, err
}

// prove says on the source that the copy is the store that goes on. That is so only if its mark
// has kept servers off from the beginning: it may have been taken away, or another copy may have
// come and gone. The target is closed meanwhile, and stays so if this fails.
func (c *storeCopy) prove(ctx context.Context, mark sourceMark) (proved bool, err error) {
	if c.from.still(ctx) != nil { // maybe one that was refused, and leaves just now
		if err := c.from.alone(ctx, c.screen.waits); err != nil {
			return false, err
		}
	}
	if err := c.certificates(ctx); err != nil {
		return false, err
	}
	if c.to.name == "postgres" { // a process alone writes what it knows, whatever its nodes of before had agreed on
		if err := node.Raise(ctx, c.to.engine, storedFormat); err != nil {
			return false, err
		}
	}
	if err := setMark(ctx, c.to.engine, provedKey, []byte(mark.Run)); err != nil {
		return false, err
	}
	mark.Done, mark.At = true, time.Now()
	own, err := swapMark(ctx, c.from.engine, mark.Run, &mark)
	if own && err == nil { // as long as it is marked: a run that is cut short here is gone on with
		return own, c.to.reopen(ctx)
	}
	if err == nil && !own {
		err = failed("while it was copied, the %s store was opened for servers again, or another copy of it was begun; let neither go on, and run this command again: it takes over what has changed", c.from.name)
	}
	return own, err
}

// clearNodes removes from a target that holds nothing else what nodes have left that were
// started on it and did not stay.
func (c *storeCopy) clearNodes(ctx context.Context) error {
	full, err := c.to.records(ctx)
	if err != nil || full {
		return err
	}
	if _, unfinished, err := carry.Unfinished(ctx, c.to.engine); err != nil || unfinished {
		return err
	}
	return c.to.engine.Update(ctx, node.Shard, func(w engine.Writer) error { return w.DeleteRange(nil, nil) })
}

// certificates sees to it that a server on the target finds those that were used last: one that
// shares its store takes over what lies in the data folder unless the store has any, and one that
// does not the other way round.
func (c *storeCopy) certificates(ctx context.Context) error {
	n, err := c.to.nodes(ctx, c.cfg)
	if err != nil {
		return err
	}
	list, err := n.Files().List(ctx, acmeFolder)
	folder := filepath.Join(string(c.cfg.Data), acmeFolder)
	if _, serr := os.Stat(folder); err != nil || serr != nil || len(list) == 0 {
		return err
	}
	if c.to.name == "pebble" {
		aside := folder + "." + time.Now().UTC().Format("20060102T150405Z")
		if err := os.Rename(folder, aside); err != nil {
			return failed("cannot move %s aside, which the certificates of the nodes are to replace: %v", folder, err)
		}
		return nil
	}
	for _, f := range list {
		if err := n.Files().Remove(ctx, f.Name); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom says how a target becomes an empty one.
func makeRoom(s *side) string {
	if s.name == "pebble" {
		return "move the folder away"
	}
	return "name an empty database in url of [store]"
}

// copyLine is the last one.
type copyLine struct {
	Event     string `json:"event"`
	From      string `json:"from"`
	To        string `json:"to"`
	DryRun    bool   `json:"dry_run,omitempty"`
	Shards    int    `json:"shards"`
	Records   int64  `json:"records,omitempty"`
	Bytes     int64  `json:"bytes,omitempty"`
	Blobs     int64  `json:"blobs"`
	BlobBytes int64  `json:"blob_bytes"`
	Goes      string `json:"continues,omitempty"` // a copy that was cut short, on the target
	Next      string `json:"next"`
}

func (c *storeCopy) tell(at carry.Progress) error {
	l := copyLine{Event: "done", From: c.from.name, To: c.to.name, Shards: at.Shards, Records: at.Keys, Bytes: at.Bytes, Blobs: at.Blobs, BlobBytes: at.BlobBytes, Next: c.next()}
	if c.screen.json {
		return printJSON(c.screen.out, l)
	}
	_, err := fmt.Fprintf(c.screen.out, "copied and compared: %s and %s (%s)\n%s\n", counted(l.Records, "record"), counted(l.Blobs, "body"), bytesText(l.Bytes+l.BlobBytes), l.Next)
	return err
}

// next says what is to be done now.
func (c *storeCopy) next() string {
	if c.to.name == "postgres" {
		return fmt.Sprintf("now: let [store] in %s say engine = \"postgres\", and start martlet serve, here and on other machines with the same [store] and [blobs]. "+
			"The store in %s is not used any more; remove it when all is well. %s stays this node's", c.path, c.from.where, c.cfg.Data)
	}
	return fmt.Sprintf("now: let [store] in %s say engine = \"pebble\", take url out of it and engine = \"s3\" with its keys out of [blobs], and start martlet serve on this machine alone. "+
		"The database is not used any more; remove it when all is well", c.path)
}

// tryObjects returns why the object store of the side that has one cannot be used.
func (c *storeCopy) tryObjects(ctx context.Context) error {
	for _, s := range []*side{c.from, c.to} {
		if s == nil || s.house == nil {
			continue
		}
		if err := s.house.tryObjects(ctx); err != nil {
			return failed("the object store cannot be used: %s; start it, or correct [blobs]; the key must be allowed to put, get, list and delete", describe(err))
		}
	}
	return nil
}

// look counts what there is to copy.
func (c *storeCopy) look(ctx context.Context) error {
	l := copyLine{Event: "plan", From: c.from.name, DryRun: true}
	if err := c.tryObjects(ctx); err != nil {
		return err
	}
	shards, err := c.from.engine.Shards(ctx)
	if err != nil {
		return err
	}
	l.Shards = len(shards)
	err = c.from.engine.Blobs().List(ctx, func(_ mail.BlobRef, _ time.Time, size int64) bool {
		l.Blobs++
		l.BlobBytes += size
		return true
	})
	if err != nil {
		return err
	}
	where := engineDir(c.cfg)
	if c.to != nil {
		where = c.to.where
		source, unfinished, err := carry.Unfinished(ctx, c.to.engine)
		if err != nil {
			return err
		}
		full, err := c.to.records(ctx)
		switch {
		case err != nil:
			return err
		case unfinished && source != c.from.where:
			return failed("the %s store in %s holds an unfinished copy of %s; %s", c.to.name, where, source, makeRoom(c.to))
		case full && !unfinished:
			return failed("the %s store in %s is not empty; %s", c.to.name, where, makeRoom(c.to))
		case unfinished:
			l.Goes = source
		}
	}
	l.To = map[string]string{"pebble": "postgres", "postgres": "pebble"}[c.from.name]
	if c.screen.json {
		return printJSON(c.screen.out, l)
	}
	more := ""
	if l.Goes != "" {
		more = ", where a copy was cut short that would be gone on with"
	}
	_, err = fmt.Fprintf(c.screen.out, "would be copied from %s to %s%s: %s and %s (%s)\n", c.from.where, where, more, counted(int64(l.Shards), "shard"), counted(l.Blobs, "body"), bytesText(l.BlobBytes))
	return err
}

// copyScreen shows how far a copy is.
type copyScreen struct {
	json     bool
	out, err io.Writer
	bar      *progressbar.ProgressBar
	part     string
	last     time.Time
}

func newCopyScreen(cmd *cobra.Command) *copyScreen {
	return &copyScreen{json: wantsJSON(cmd), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
}

// says tells of something that is amiss.
func (s *copyScreen) says(what string) {
	s.clear()
	fmt.Fprintln(s.err, what)
}

// waits says that a node is watched.
func (s *copyScreen) waits(node string) {
	if s.json && time.Since(s.last) >= time.Second {
		s.last = time.Now()
		_ = printJSON(s.out, map[string]string{"event": "waiting", "node": node}) // only a sign of life
	} else if isTerminal(s.err) {
		progress(s.err, "looking whether the node "+node+" still runs")
	}
}

// copyProgress is a line of it.
type copyProgress struct {
	Event          string `json:"event"`
	Stage          string `json:"stage"`
	Round          int    `json:"round"`
	Shards         int    `json:"shards"`
	ShardsTotal    int    `json:"shards_total"`
	Records        int64  `json:"records"`
	Bytes          int64  `json:"bytes"`
	Blobs          int64  `json:"blobs"`
	BlobsTotal     int64  `json:"blobs_total"`
	BlobBytes      int64  `json:"blob_bytes"`
	BlobBytesTotal int64  `json:"blob_bytes_total"`
	Changed        int64  `json:"changed"`
}

func (s *copyScreen) progress(p carry.Progress) {
	now := time.Now()
	part, at, total := "bodies", p.Blobs, p.BlobsTotal
	if p.Shards > 0 || p.Keys > 0 {
		part, at, total = "mailboxes", int64(p.Shards), int64(p.ShardsTotal)
	}
	part = map[carry.Stage]string{carry.Copying: "copying ", carry.Verifying: "comparing "}[p.Stage] + part
	if part == s.part && now.Sub(s.last) < 200*time.Millisecond || s.json && now.Sub(s.last) < time.Second && part == s.part {
		return
	}
	switch {
	case s.json:
		_ = printJSON(s.out, copyProgress{"progress", string(p.Stage), p.Round, p.Shards, p.ShardsTotal, p.Keys, p.Bytes, p.Blobs, p.BlobsTotal, p.BlobBytes, p.BlobBytesTotal, p.Changed})
	case isTerminal(s.err):
		if s.bar == nil || part != s.part {
			s.clear()
			s.bar = progressbar.NewOptions64(max(total, 1), progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription(part), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
		}
		s.bar.ChangeMax64(max(total, 1))
		_ = s.bar.Set64(min(at, max(total, 1)))
	}
	s.part, s.last = part, now
}

func (s *copyScreen) clear() {
	if isTerminal(s.err) {
		progress(s.err, "")
	}
	if s.bar != nil {
		_ = s.bar.Clear()
		s.bar = nil
	}
}
