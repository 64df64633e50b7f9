package pebble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	db "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Checked counts what Check has read.
type Checked struct {
	Files int
	Bytes int64
}

// Check reads every file of the folder and holds it against the checksum it had when it
// was written. It may run while the engine is in use. report is called for each file
// that is not as it was.
func (e *Engine) Check(ctx context.Context, report func(file, what string)) (Checked, error) {
	if err := e.gate.enter(); err != nil {
		return Checked{}, err
	}
	defer e.gate.leave()
	c := checker{ctx: ctx, w: e.disk.witness, report: report}
	if err := c.all(); err != nil {
		return c.done, e.failed(err)
	}
	if err := e.mendEnds(ctx, true); err != nil {
		return c.done, e.failed(err)
	}
	return c.done, ctx.Err()
}

type checker struct {
	ctx    context.Context
	w      *witness
	count  *census // nil: none could be made
	report func(file, what string)
	done   Checked
}

func (c *checker) all() error {
	names, err := c.w.fs.List(c.w.dir)
	if err != nil {
		return err
	}
	for _, marker := range []string{"marker.manifest.", "marker.format-version."} {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, marker) }) {
			c.report(marker+"*", "is missing")
		}
	}
	for _, f := range c.w.known() {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.file(f); err != nil {
			return err
		}
	}
	slices.Sort(names)
	c.count, _ = readCensus(c.w.fs, c.w.path(currentManifest(names))) // what it does not name yet is known
	for _, name := range names {
		if err := c.unknown(name); err != nil {
			return err
		}
	}
	c.lists()
	c.sums()
	return nil
}

// known returns what every file must hold.
func (w *witness) known() []extent {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(w.synced)
	for _, name := range slices.Sorted(maps.Keys(w.sums)) {
		all = append(all, w.sums[name])
	}
	return all
}

// still tells whether a file is known as it was.
func (w *witness) still(f extent) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if fixed(f.name) {
		return w.sums[f.name] == f
	}
	return slices.ContainsFunc(w.synced, func(e extent) bool { return e.name == f.name && e.size >= f.size })
}

func (c *checker) file(f extent) error {
	wrong, err := c.w.holds(f)
	if err == nil && wrong == "" && fixed(f.name) {
		wrong, err = c.longer(f)
	}
	c.done.Files++
	c.done.Bytes += f.size
	switch {
	case errors.Is(err, fs.ErrNotExist), wrong != "" && !c.w.still(f):
		return nil // removed, or written over, meanwhile
	case err != nil:
		c.report(f.name, fmt.Sprintf("cannot be read: %v", err))
	case wrong != "":
		c.report(f.name, wrong)
	}
	return nil
}

// longer tells whether a file has grown that must not.
func (c *checker) longer(f extent) (string, error) {
	info, err := c.w.fs.Stat(c.w.path(f.name))
	if err != nil || info.Size() == f.size {
		return "", err
	}
	return "is longer than it was", nil
}

// unknown checks a table without a line in the list by the checksums of its blocks. An
// earlier version wrote it, or a power cut took the line.
func (c *checker) unknown(name string) error {
	if !strings.HasSuffix(name, ".sst") || c.w.has(name) || !c.count.counts(name) {
		return nil
	}
	f, err := c.w.fs.Open(c.w.path(name))
	if err == nil {
		err = checkBlocks(c.ctx, f)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !c.w.has(name) {
		if _, gone := c.w.fs.Stat(c.w.path(name)); gone == nil {
			c.report(name, fmt.Sprintf("is damaged: %v", err))
		}
	}
	c.done.Files++
	return nil
}

// has tells whether a file has a line, or will have one as it is still written.
func (w *witness) has(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.sums[name]
	return ok || w.writing[name]
}

func checkBlocks(ctx context.Context, f vfs.File) error {
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	opts := new(db.Options)
	opts.EnsureDefaults()
	r, err := sstable.NewReader(ctx, readable, opts.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// lists checks the list of what was synced.
func (c *checker) lists() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.file != nil {
		b, err := readWhole(c.w.fs, c.w.path(syncedName))
		if err != nil {
			c.report(syncedName, fmt.Sprintf("cannot be read: %v", err))
		}
		for slot := range slots {
			if _, _, ok := decodeSlot(b[min(slot*slotBytes, len(b)):]); err == nil && !ok && c.w.born {
				c.report(syncedName, "is damaged")
			}
		}
	}
}

// sums checks the list of checksums. It is read while files come and go; only if it does not say
// what it must, once more while the list, and so each sync of the log, waits.
func (c *checker) sums() {
	c.w.mu.Lock()
	known := maps.Clone(c.w.sums)
	c.w.mu.Unlock()
	if c.sumsHold(known) == "" {
		return
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if wrong := c.sumsHold(c.w.sums); wrong != "" && c.w.sumsFile != nil && !c.w.sumsFailed {
		c.report(sumsName, wrong)
	}
}

func (c *checker) sumsHold(known map[string]extent) (wrong string) {
	b, err := readWhole(c.w.fs, c.w.path(sumsName))
	if err != nil {
		return fmt.Sprintf("cannot be read: %v", err)
	}
	sums, whole := parseSums(b)
	for name, f := range known {
		whole = whole && (temporary(name) || sums[name] == f)
	}
	if !whole {
		return "is damaged"
	}
	return ""
}
