package bench

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// crowded is how many recipients the messages of the last part of disk have, and
// circulars how many such messages there are.
const (
	crowded   = 100
	circulars = 20
)

// runDisk puts mail of several kinds in and reports how much of the disk each came to
// use for a byte of mail.
func runDisk(ctx context.Context, r *runner) error {
	for _, kind := range r.opt.Disk {
		var err error
		res := Result{Scenario: "disk", Connections: 1}
		switch kind {
		case string(Small), string(Mixed), string(Corpus):
			res.Sizes = Sizes(kind)
			err = r.stored(ctx, &res, r.fillDisk)
		case shared:
			res.Sizes, res.Recipients = Corpus, crowded
			err = r.stored(ctx, &res, r.circulate)
		default:
			err = fault.Newf(fault.Invalid, "disk knows no kind of mail called %q, but %s, %s, %s and %s", kind, Small, Mixed, Corpus, shared)
		}
		if err != nil {
			return err
		}
		r.report(res)
	}
	return nil
}

// stored measures what put adds to the folder of the server.
func (r *runner) stored(ctx context.Context, res *Result, put func(context.Context, *Result) error) error {
	before, err := r.rest(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := put(ctx, res); err != nil {
		return err
	}
	res.Seconds = time.Since(start).Seconds()
	res.Rate = float64(res.Operations) / res.Seconds
	after, err := r.rest(ctx)
	if err != nil {
		return err
	}
	res.Disk = after - before
	res.DiskPerByte = float64(res.Disk) / float64(max(res.Bytes, 1))
	return nil
}

// fillDisk appends messages of a kind to a mailbox of their own, which stays.
func (r *runner) fillDisk(ctx context.Context, res *Result) error {
	c, err := dialIMAP(ctx, r.target)
	if err != nil {
		return err
	}
	defer c.Close()
	seed := r.nextSeed("disk-" + string(res.Sizes))
	box, _, err := r.scratch(c, seed)
	if err != nil {
		return err
	}
	step := 1
	if c.has("MULTIAPPEND") {
		step = 20
	}
	l, what := newLetters(seed, res.Sizes), "mail of kind "+string(res.Sizes)
	more := func() bool { return res.Bytes < r.opt.DiskBytes }
	if res.Sizes == Small {
		more = func() bool { return res.Operations < r.opt.Messages }
	}
	for n := 0; more(); n += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		size, err := c.append(box, l, n, n+step, noFlags)
		if err != nil {
			return at(fmt.Sprintf("message %d of %s", n, box), err)
		}
		res.Bytes += int64(size)
		res.Operations += step
		if res.Sizes == Small {
			r.opt.Progress(what, res.Operations, r.opt.Messages)
		} else {
			r.opt.Progress(what+", MB", int(res.Bytes/1e6), int(r.opt.DiskBytes/1e6))
		}
	}
	return nil
}

// circulate delivers messages to a hundred recipients each. Bytes counts them once.
func (r *runner) circulate(ctx context.Context, res *Result) error {
	rcpts := slices.Compact(slices.Sorted(slices.Values(r.target.Recipients)))
	if len(rcpts) < crowded {
		return fault.Newf(fault.Invalid, "%s of disk needs %d recipients and there are %d: make accounts and name each with --recipient, or all with --recipient 'user{0..99}@example.org'",
			shared, crowded, len(rcpts))
	}
	l := newLetters(r.nextSeed("disk-"+shared), Corpus)
	c, err := r.dialMail(ctx, lmtp, l, rcpts[:crowded]...)
	if err != nil {
		return err
	}
	defer c.Close()
	for n := range circulars {
		r.opt.Progress("mail to a hundred recipients", n, circulars)
		if err := ctx.Err(); err != nil {
			return err
		}
		c.prepare(n)
		size, refusal, err := c.deliver()
		if err != nil {
			return err
		}
		if refusal != "" {
			return fault.Newf(fault.Unavailable, "mail to %d recipients was refused: %q", crowded, refusal)
		}
		res.Bytes += int64(size)
		res.Operations++
	}
	r.opt.Progress("mail to a hundred recipients", circulars, circulars)
	return nil
}

// restless is how long a server is waited for that does not stop to write.
const restless = time.Minute

// rest gives the server time to come to rest, by a restart if it can be restarted, and
// returns what it uses of the disk then.
func (r *runner) rest(ctx context.Context) (int64, error) {
	if r.opt.Restart != nil {
		if err := r.restart(ctx); err != nil {
			return 0, err
		}
	}
	last, err := diskUse(r.target.Data)
	since := time.Now()
	for start := since; err == nil && time.Since(since) < r.opt.calm && time.Since(start) < restless; {
		r.opt.Progress("waiting for the disk", int(time.Since(since)/time.Second), int(r.opt.calm/time.Second))
		if err := pause(ctx, r.opt.calm/10); err != nil {
			return 0, err
		}
		var now int64
		if now, err = diskUse(r.target.Data); now != last {
			last, since = now, time.Now()
		}
	}
	return last, err
}

// diskUse adds up the blocks of all files and folders below dir. A file with several
// names counts once.
func diskUse(dir string) (int64, error) {
	var sum int64
	seen := map[fileID]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == dir {
				return fault.Wrap(fault.NotFound, "cannot read the folder of the server's mail, "+dir, err)
			}
			return nil // gone meanwhile
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		id, n := blocks(info)
		if !seen[id] {
			sum += n
			seen[id] = id != fileID{}
		}
		return nil
	})
	return sum, err
}
