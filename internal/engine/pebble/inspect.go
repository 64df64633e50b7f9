package pebble

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// FileDamage is a file that is not as it was written.
type FileDamage struct{ File, What string }

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
