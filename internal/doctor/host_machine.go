package doctor

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

func days(t time.Duration) string {
	if n := int(t / (24 * time.Hour)); n >= 2 {
		return fmt.Sprintf("%d days", n)
	}
	return t.Round(time.Minute).String()
}

// size writes bytes for people.
func size(n uint64) string {
	for _, u := range []struct {
		name string
		n    uint64
	}{{"GB", 1e9}, {"MB", 1e6}} {
		if n >= u.n {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.n), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// Clocks may differ so much before signatures, certificates and tokens suffer.
const (
	clockWarn = 30 * time.Second
	clockFail = 5 * time.Minute
)

func (d *Doctor) clock(ctx context.Context) finding {
	fix := "let something keep the clock right: timedatectl set-ntp true (Debian: apt install systemd-timesyncd or chrony)"
	off, err := d.askTime(ctx)
	if err == nil {
		switch abs := max(off, -off); {
		case abs > clockFail:
			return fail(fix, "the clock is %s off by %s", off.Round(time.Second), d.NTP)
		case abs > clockWarn:
			return warn(fix, "the clock is %s off by %s", off.Round(time.Second), d.NTP)
		}
		return ok("the clock is right by %s", d.NTP)
	}
	if d.Machine.Synced != nil {
		if synced, known := d.Machine.Synced(); known && synced {
			return ok("the kernel says that something keeps the clock right")
		} else if known {
			return warn(fix, "nothing keeps the clock right, says the kernel, and no other clock could be asked (%v)", err)
		}
	}
	return skip("no other clock could be asked: %v", err)
}

// ntpEpoch is how many seconds before those of Unix NTP begins to count (RFC 5905, 6).
const ntpEpoch = 2208988800

// askTime asks a server how far off our clock is (RFC 5905, 14: a client that keeps no state).
func (d *Doctor) askTime(ctx context.Context) (time.Duration, error) {
	if d.NTP == "" {
		return 0, fmt.Errorf("none is named")
	}
	addrs, _, err := d.Resolver.LookupAddr(ctx, d.NTP)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, a := range addrs[:min(2, len(addrs))] {
		var off time.Duration
		if off, err = d.askTimeOf(ctx, net.JoinHostPort(a.String(), "123")); err == nil {
			return off, nil
		}
	}
	return 0, err
}

func (d *Doctor) askTimeOf(ctx context.Context, address string) (time.Duration, error) {
	conn, err := d.Dial(ctx, "udp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	question := make([]byte, 48)
	question[0] = 4<<3 | 3 // version 4, client
	sent := d.Now()
	if _, err := conn.Write(question); err != nil {
		return 0, err
	}
	answer := make([]byte, 48)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return 0, err
	}
	if answer[0]&7 != 4 || answer[1] == 0 || answer[1] > 15 {
		return 0, fmt.Errorf("%s does not know the time", address)
	}
	told := time.Unix(int64(binary.BigEndian.Uint32(answer[40:]))-ntpEpoch, 0)
	return d.Now().Add(sent.Sub(d.Now()) / 2).Sub(told), nil
}

func (d *Doctor) timeZone(context.Context) finding {
	if d.Machine.Zone == nil {
		return skip("nothing is known of the time zone")
	}
	if err := d.Machine.Zone(); err != nil {
		return warn("set TZ of the service to a zone that there is, such as Europe/Berlin, or install the zones (Debian: apt install tzdata)", "the time zone is not known: %v; times in mail are those of UTC", err)
	}
	return ok("the time zone is known")
}

// Of the disk so much must be free, as a part and in bytes.
const (
	diskFail = 1 << 30
	diskWarn = 5 << 30
)

func (d *Doctor) disk(context.Context) finding {
	if d.Machine.Disk == nil {
		return skip("nothing is known of the disk")
	}
	free, whole, err := d.Machine.Disk()
	fix := "make room on the disk of the data folder, or move it to a larger one"
	switch {
	case err != nil:
		return skip("the disk cannot be asked: %v", err)
	case free < min(diskFail, whole/50):
		return fail(fix, "only %s of %s are free; soon no mail is taken in", size(free), size(whole))
	case free < min(diskWarn, whole/10):
		return warn(fix, "only %s of %s are free", size(free), size(whole))
	}
	return ok("%s of %s are free", size(free), size(whole))
}

func (d *Doctor) dataFolder(context.Context) finding {
	if d.Machine.Data == nil {
		return skip("nothing is known of the data folder")
	}
	mode, err := d.Machine.Data()
	switch {
	case err != nil:
		return skip("the data folder cannot be looked at: %v", err)
	case mode&0o077 != 0:
		return warn("chmod 700 the folder of data in the configuration", "the data folder can be read by other users of this machine (%v)", mode)
	}
	return ok("nobody else on this machine can read the data folder")
}

func (d *Doctor) store(ctx context.Context) finding {
	if d.Healthy == nil {
		return skip("nothing is known of the store")
	}
	if err := d.Healthy(ctx); err != nil {
		return fail("see the server's log; then: martlet verify", "the store is not well: %v", err)
	}
	return ok("the store takes mail; martlet verify reads all of it")
}

func (d *Doctor) backup(ctx context.Context) finding {
	if d.Machine.Backup == nil {
		return skip("no backup is known here; martlet backup makes one")
	}
	age, known, err := d.Machine.Backup(ctx)
	fix := "see why the timer does not run; by hand: martlet backup"
	switch {
	case err != nil:
		return warn(fix, "the backups cannot be looked at: %v", err)
	case !known:
		return skip("no backup is known here; martlet backup makes one")
	case age > 7*24*time.Hour:
		return fail(fix, "the last backup is %s old", days(age))
	case age > 2*24*time.Hour:
		return warn(fix, "the last backup is %s old", days(age))
	}
	return ok("the last backup is %s old", days(age))
}

func (d *Doctor) descriptors(context.Context) finding {
	have, want := d.Machine.Descriptors, uint64(min(d.Machine.Connections, 4000))+1500
	switch {
	case have == 0:
		return skip("nothing is known of file descriptors")
	case have < want:
		return warn(fmt.Sprintf("LimitNOFILE=%d in the service file, or ulimit -n %d", want, want), "the server may have only %d files and connections open", have)
	}
	return ok("the server may have %d files and connections open", have)
}

func (d *Doctor) root(context.Context) finding {
	if d.Machine.Root {
		return warn("set user = \"martlet\" in the configuration, and make the user: useradd --system martlet", "the server runs as root; a defect of it would be one of the whole machine")
	}
	return ok("the server does not run as root")
}

// What the queue may hold before somebody should look.
const (
	queueWarn    = 1000
	queueFail    = 100_000
	queueAgeWarn = 24 * time.Hour
)

func (d *Doctor) queue(ctx context.Context) (Queue, finding) {
	if d.Queue == nil {
		return Queue{}, skip("nothing is known of the queue")
	}
	q, err := d.Queue(ctx)
	if err != nil {
		return q, skip("the queue cannot be asked: %v", err)
	}
	return q, finding{}
}

func (d *Doctor) queueSize(ctx context.Context) finding {
	q, none := d.queue(ctx)
	fix := "see what waits and why: martlet queue list; is an account sending what it should not?"
	switch {
	case none.status != "":
		return none
	case q.Messages >= queueFail:
		return fail(fix, "%d messages wait in the queue", q.Messages)
	case q.Messages >= queueWarn:
		return warn(fix, "%d messages wait in the queue", q.Messages)
	case q.Held > 0:
		return warn("martlet queue list; then martlet queue release or drop", "%d messages are held in the queue", q.Held)
	}
	return ok("%d messages wait in the queue", q.Messages)
}

func (d *Doctor) queueAge(ctx context.Context) finding {
	q, none := d.queue(ctx)
	switch {
	case none.status != "":
		return none
	case q.Oldest > queueAgeWarn:
		return warn("see why: martlet queue list", "a message has waited for %s: %s", days(q.Oldest), q.Reason)
	}
	return ok("nothing waits for long")
}

func (d *Doctor) queueFailures(ctx context.Context) finding {
	q, none := d.queue(ctx)
	switch {
	case none.status != "":
		return none
	case q.Failing > 10 && q.Failing*2 > q.Messages:
		return warn("see why: martlet queue list", "%d of %d messages were tried in vain, the oldest because: %s", q.Failing, q.Messages, q.Reason)
	}
	return ok("%d messages were tried in vain and wait for the next attempt", q.Failing)
}
