package trace

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"
)

// Note writes an event down. It gives it the time if it has none.
func (b *Book) Note(e Event) {
	if b == nil {
		return
	}
	if e.At.IsZero() {
		e.At = b.opt.Now()
	}
	e.At = e.At.UTC().Truncate(time.Millisecond)
	if more := len(e.To) - maxRecipients; more > 0 {
		e.To, e.More = e.To[:maxRecipients], more
	}
	e.bound()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(appendEvent(b.buf, &e), '\n')
	if len(b.buf) >= bufferSize {
		b.write()
	}
}

// Flush writes what is held back.
func (b *Book) Flush() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write()
}

// write moves the buffer to the segment. b.mu is held.
func (b *Book) write() {
	if len(b.buf) == 0 {
		return
	}
	err := b.turnPage()
	if err == nil {
		_, err = b.segment.Write(b.buf)
	}
	if err != nil {
		b.fail(err)
	} else {
		b.size += int64(len(b.buf))
		if b.broken {
			b.opt.Log.Info("events of messages are kept again", "lost", b.lost)
		}
		b.broken, b.lost = false, 0
	}
	b.buf = b.buf[:0]
}

// fail gives the buffer and the segment up.
func (b *Book) fail(err error) {
	b.lost += bytes.Count(b.buf, []byte{'\n'})
	if !b.broken {
		b.opt.Log.Warn("events of messages cannot be kept; mail goes on", "folder", b.opt.Dir, "err", err, "fix", "see whether the disk is full")
	}
	b.broken = true
	b.closeSegment()
}

func (b *Book) closeSegment() {
	if b.segment != nil {
		_ = b.segment.Close()
	}
	b.segment, b.name = nil, ""
}

// turnPage opens a segment if there is none, or the one there is has had its time.
func (b *Book) turnPage() error {
	now := b.opt.Now().UTC()
	if b.segment != nil && (b.size >= segmentSize || now.Sub(b.began) >= 24*time.Hour || now.Before(b.began)) {
		b.closeSegment()
	}
	if b.segment != nil {
		return nil
	}
	all, err := b.segments()
	if err != nil {
		return err
	}
	name := segment{number: 1, began: now}
	if len(all) > 0 {
		name.number = all[len(all)-1].number + 1
	}
	f, err := b.opt.FS.Create(b.path(name.String()), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	b.segment, b.name, b.began, b.size = f, name.String(), now, 0
	return nil
}

// segment is a file of the book: 00000012-20260131T235959Z.jsonl, with .zst behind it once
// it is compressed.
type segment struct {
	number int
	began  time.Time
	packed bool
}

const stamp = "20060102T150405Z"

func (s segment) String() string {
	name := fmt.Sprintf("%08d-%s.jsonl", s.number, s.began.UTC().Format(stamp))
	if s.packed {
		name += ".zst"
	}
	return name
}

func parseSegment(name string) (s segment, ok bool) {
	rest, packed := strings.CutSuffix(name, ".zst")
	rest, ok = strings.CutSuffix(rest, ".jsonl")
	number, began, cut := strings.Cut(rest, "-")
	if !ok || !cut {
		return s, false
	}
	n, err := strconv.Atoi(number)
	at, err2 := time.Parse(stamp, began)
	return segment{n, at, packed}, err == nil && err2 == nil && n > 0
}

func (b *Book) path(name string) string { return b.opt.FS.PathJoin(b.opt.Dir, name) }

// segments lists the files in order of time. One that is there twice, because its packing
// was cut short, counts as the one that is not packed.
func (b *Book) segments() ([]segment, error) {
	names, err := b.opt.FS.List(b.opt.Dir)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, name := range names {
		if s, ok := parseSegment(name); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b segment) int {
		if a.number != b.number {
			return a.number - b.number
		}
		return strings.Compare(a.String(), b.String())
	})
	return slices.CompactFunc(all, func(a, b segment) bool { return a.number == b.number }), nil
}

// Run writes events down at each tick, and once in an hour's worth of ticks packs and
// removes segments, until ctx ends. ticks is meant to tick once a second.
func (b *Book) Run(ctx context.Context, ticks <-chan time.Time) {
	for n := 0; ; n++ {
		if n%3600 == 60 {
			b.Tidy(ctx)
		}
		select {
		case <-ctx.Done():
			b.Close()
			return
		case <-ticks:
			b.Flush()
		}
	}
}

// Close writes what is held back and ends the segment.
func (b *Book) Close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write()
	b.closeSegment()
}

// Tidy compresses segments that are done and removes those that are too old or too many.
func (b *Book) Tidy(ctx context.Context) {
	b.pressing.Lock()
	defer b.pressing.Unlock()
	b.mu.Lock()
	open := b.name
	b.mu.Unlock()
	all, err := b.segments()
	if err != nil {
		return
	}
	for i, s := range all {
		if s.packed || s.String() == open || ctx.Err() != nil {
			continue
		}
		if err := b.pack(s); err != nil {
			b.opt.Log.Warn("events of messages cannot be compressed", "file", s.String(), "err", err)
			continue
		}
		all[i].packed = true
	}
	b.prune(all, open)
}

// pack compresses a segment. Until its last step the segment itself counts.
func (b *Book) pack(s segment) error {
	fs, done := b.opt.FS, s
	done.packed = true
	in, err := fs.Open(b.path(s.String()))
	if err != nil {
		return err
	}
	defer in.Close()
	temporary := b.path(done.String() + ".part")
	out, err := fs.Create(temporary, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err == nil {
		_, err = io.Copy(z, in)
		if closing := z.Close(); err == nil {
			err = closing
		}
	}
	if err == nil {
		err = out.Sync() // or a power cut leaves neither
	}
	if closing := out.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = fs.Rename(temporary, b.path(done.String()))
	}
	if err != nil {
		_ = fs.Remove(temporary)
		return err
	}
	return fs.Remove(b.path(s.String()))
}

// prune removes the oldest segments. How old one is says the beginning of the next.
func (b *Book) prune(all []segment, open string) {
	var total int64
	sizes := make([]int64, len(all))
	for i, s := range all {
		if info, err := b.opt.FS.Stat(b.path(s.String())); err == nil {
			sizes[i] = info.Size()
			total += sizes[i]
		}
	}
	oldest := b.opt.Now().Add(-b.opt.Keep)
	for i, s := range all {
		last := b.opt.Now()
		if i+1 < len(all) {
			last = all[i+1].began
		}
		if s.String() == open || !last.Before(oldest) && total <= b.opt.Bytes {
			return
		}
		if err := b.opt.FS.Remove(b.path(s.String())); err != nil {
			return
		}
		total -= sizes[i]
	}
}
