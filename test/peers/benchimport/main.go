// Command benchimport measures how many messages a second are brought from one Dovecot, in
// one run and in turns: by martlet import, by mbsync into Martlet over IMAP and into a
// Maildir, and by imapsync into Martlet if its script is named. All read from loopback, and
// what they write to is new each time. It needs root, for a private Dovecot.
//
// The rate counts from the start of the program to its end, with all it does; processor time
// is that of the program, of Dovecot and of Martlet together. martlet import reads every
// message back out of the store at its end to prove that it is the same, which the others do
// not; the rate with --no-proof is given too.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	peerbench "github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

type settings struct {
	messages, size, rounds int
	binary, imapsync, only string
	verbose                bool
}

func main() {
	var s settings
	flag.IntVar(&s.messages, "messages", 10_000, "messages of the source, in one mailbox")
	flag.IntVar(&s.size, "size", 8_000, "bytes of a message, on average")
	flag.IntVar(&s.rounds, "rounds", 3, "times that each has its turn")
	flag.StringVar(&s.binary, "martlet", "bin/martlet", "program to measure")
	flag.StringVar(&s.imapsync, "imapsync", "", "the script of imapsync; not measured without it")
	flag.StringVar(&s.only, "only", "", "only what has one of these in its name, separated by |")
	flag.BoolVar(&s.verbose, "v", false, "say whose processor time it is")
	flag.Parse()
	if err := measure(context.Background(), s); err != nil {
		fmt.Fprintln(os.Stderr, "benchimport:", err)
		os.Exit(1)
	}
}

func (s *settings) wants(name string) bool {
	for part := range strings.SplitSeq(s.only, "|") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// figure is one turn.
type figure struct {
	rate   float64 // messages a second
	cpu    float64 // ms of processor time a message: the program, and both servers
	memory int64   // most memory of the program, KB
}

// way is one way to bring mail.
type way struct {
	name string
	run  func(b *bench, to *martlet.Server) (*exec.Cmd, error)
}

var ways = []way{
	{"martlet import", func(b *bench, to *martlet.Server) (*exec.Cmd, error) { return b.martlet(to), nil }},
	{"martlet import --no-proof", func(b *bench, to *martlet.Server) (*exec.Cmd, error) { return b.martlet(to, "--no-proof"), nil }},
	{"mbsync to Martlet", func(b *bench, to *martlet.Server) (*exec.Cmd, error) { return b.mbsync(to, true) }},
	{"mbsync to Maildir", func(b *bench, to *martlet.Server) (*exec.Cmd, error) { return b.mbsync(nil, true) }},
	{"mbsync, unsynced, to Maildir", func(b *bench, to *martlet.Server) (*exec.Cmd, error) { return b.mbsync(nil, false) }},
	{"imapsync to Martlet", func(b *bench, to *martlet.Server) (*exec.Cmd, error) { return b.imapsync(to) }},
}

type bench struct {
	settings
	dir    string // of this turn
	source *dovecot.Server
}

func measure(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "benchimport")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	source, err := dovecot.Run(dovecot.Options{Dir: filepath.Join(dir, "dovecot"), Format: dovecot.Maildir, Unsynced: true})
	if err != nil {
		return err
	}
	defer source.Stop()
	if err := fill(ctx, source, s); err != nil {
		return err
	}
	got := map[string][]figure{}
	for round := range s.rounds {
		for i, w := range ways {
			if !s.wants(w.name) || s.imapsync == "" && strings.HasPrefix(w.name, "imapsync") {
				continue
			}
			b := &bench{settings: s, dir: filepath.Join(dir, fmt.Sprintf("%d-%d", round, i)), source: source}
			f, err := b.turn(ctx, w)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d: %s: %.0f messages/s, %.3f ms of processor time each, %d MB\n", round+1, w.name, f.rate, f.cpu, f.memory>>10)
			got[w.name] = append(got[w.name], f)
		}
	}
	report(s, got)
	return nil
}

// turn runs one way into something new.
func (b *bench) turn(ctx context.Context, w way) (f figure, err error) {
	to, err := martlet.Start(martlet.Options{Binary: b.binary, Dir: filepath.Join(b.dir, "martlet"), Accounts: []string{"carol"}})
	if err != nil {
		return f, err
	}
	defer to.Stop()
	cmd, err := w.run(b, to)
	if err != nil {
		return f, err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	beforeTo, beforeFrom := processorTime(to.PID), processorTime(b.source.PID)
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return f, fmt.Errorf("%w: %s", err, tail(out.String()))
	}
	took := time.Since(began)
	own, target, origin := cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), processorTime(to.PID)-beforeTo, processorTime(b.source.PID)-beforeFrom
	if b.verbose {
		fmt.Fprintf(os.Stderr, "%s took %v; processor time: the program %v, Martlet %v, Dovecot %v\n", w.name, took, own, target, origin)
	}
	used := own + target + origin
	if n, err := b.arrived(ctx, to, w); err != nil || n != b.messages {
		return f, fmt.Errorf("%d of %d messages came: %w: %s", n, b.messages, err, tail(out.String()))
	}
	f.rate = float64(b.messages) / took.Seconds()
	f.cpu = used.Seconds() * 1000 / float64(b.messages)
	f.memory = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	return f, nil
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// arrived counts what came.
func (b *bench) arrived(ctx context.Context, to *martlet.Server, w way) (int, error) {
	if strings.HasSuffix(w.name, "Maildir") {
		files, err := filepath.Glob(filepath.Join(b.dir, "Maildir", "[cn][ue][rw]", "*"))
		return len(files), err
	}
	a := to.Account("carol")
	c, err := dial(ctx, to.Addr("imap"), a.Address, a.Password)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	st, err := c.Status(ctx, "Bench")
	if err != nil || st[0] == nil {
		return 0, err
	}
	return int(st[0].Messages), nil
}

func dial(ctx context.Context, addr, user, password string) (*imapc.Client, error) {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	c, err := imapc.Dial(ctx, imapc.Options{Host: host, Port: uint16(n), Security: imapc.OfferedTLS, Insecure: true, Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader})
	if err != nil {
		return nil, err
	}
	return c, c.Login(ctx, imapc.Credentials{User: user, Password: password})
}

// fill puts the messages into the source.
func fill(ctx context.Context, source *dovecot.Server, s settings) error {
	c, err := dial(ctx, source.IMAP, "carol", dovecot.Password)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Create(ctx, "Bench", ""); err != nil {
		return err
	}
	rnd := mathrand.New(mathrand.NewPCG(1, 2))
	for i := 0; i < s.messages; {
		var list []imapc.Appending
		for range min(100, s.messages-i) {
			text := letter(rnd, i, s.size)
			list = append(list, imapc.Appending{Flags: mail.Flags(i & 5), Date: time.Unix(1_200_000_000+int64(i)*1000, 0), Size: int64(len(text)), Body: strings.NewReader(text)})
			i++
		}
		done, err := c.Append(ctx, "Bench", list)
		if err != nil {
			return err
		}
		for _, d := range done {
			if d.Err != nil {
				return d.Err
			}
		}
	}
	return nil
}

// letter is a message of about half to one and a half of size.
func letter(rnd *mathrand.Rand, i, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Return-Path: <a%d@example.net>\r\nReceived: from mx.example.net (mx.example.net [192.0.2.1]) by mail.example.org; Tue, 3 Feb 2009 04:05:06 +0100\r\n"+
		"From: Somebody <a%d@example.net>\r\nTo: carol@example.org\r\nSubject: letter %d about something\r\nMessage-ID: <b%d@example.net>\r\nDate: Tue, 3 Feb 2009 04:05:06 +0100\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", i, i, i, i)
	for end := size/2 + rnd.IntN(size); b.Len() < end; {
		fmt.Fprintf(&b, "%x some words of a letter %x and others\r\n", rnd.Uint64(), rnd.Uint32())
	}
	return b.String()
}

func (b *bench) martlet(to *martlet.Server, args ...string) *exec.Cmd {
	cmd := exec.Command(b.binary, append([]string{"import", "imap", "--from", "imap://" + b.source.IMAP, "--user", "carol", "--password-stdin",
		"--to", to.Account("carol").Address, "--config", to.Config, "--mailbox", "Bench"}, args...)...)
	cmd.Stdin = strings.NewReader(dovecot.Password + "\n")
	return cmd
}

// mbsync brings into Martlet, or into a Maildir if to is nil; without synced it leaves to the
// kernel when what it wrote is on disk.
func (b *bench) mbsync(to *martlet.Server, synced bool) (*exec.Cmd, error) {
	host, port, _ := net.SplitHostPort(b.source.IMAP)
	conf := fmt.Sprintf("SyncState *\nIMAPAccount far\nHost %s\nPort %s\nUser carol\nPass %q\nSSLType None\nAuthMechs LOGIN\n\nIMAPStore far\nAccount far\n\n", host, port, dovecot.Password)
	if to != nil {
		host, port, _ = net.SplitHostPort(to.Addr("imap"))
		a := to.Account("carol")
		conf += fmt.Sprintf("IMAPAccount near\nHost %s\nPort %s\nUser %q\nPass %q\nSSLType None\nAuthMechs LOGIN\n\nIMAPStore near\nAccount near\n\n", host, port, a.Address, a.Password)
		conf = strings.Replace(conf, "SyncState *\n", fmt.Sprintf("SyncState %s/state/\n", b.dir), 1)
	} else {
		conf += fmt.Sprintf("MaildirStore near\nInbox %s/inbox\nPath %s/\nSubFolders Verbatim\n\n", b.dir, b.dir)
	}
	if !synced {
		conf = "FSync no\n" + conf
	}
	box := "Bench"
	if to == nil {
		box = "Maildir"
	}
	conf += fmt.Sprintf("Channel all\nFar :far:Bench\nNear :near:%s\nCreate Near\nSync Pull\nCopyArrivalDate yes\n", box)
	if err := os.MkdirAll(filepath.Join(b.dir, "state"), 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, "mbsyncrc")
	return exec.Command("mbsync", "-c", path, "all"), os.WriteFile(path, []byte(conf), 0o600)
}

func (b *bench) imapsync(to *martlet.Server) (*exec.Cmd, error) {
	h1, p1, _ := net.SplitHostPort(b.source.IMAP)
	h2, p2, _ := net.SplitHostPort(to.Addr("imap"))
	a := to.Account("carol")
	cmd := exec.Command("perl", b.settings.imapsync, "--host1", h1, "--port1", p1, "--user1", "carol", "--password1", dovecot.Password, "--host2", h2, "--port2", p2,
		"--user2", a.Address, "--password2", a.Password, "--notls1", "--notls2", "--nossl1", "--nossl2", "--folder", "Bench", "--nolog", "--noreleasecheck", "--no-modulesversion",
		"--tmpdir", b.dir, "--pidfile", filepath.Join(b.dir, "pid"))
	cmd.Dir = b.dir
	return cmd, nil
}

// report writes the median of each way.
func report(s settings, got map[string][]figure) {
	fmt.Printf("%d messages of %d bytes on average, medians of %d rounds\n\n| way | messages/s | processor time each, ms | memory of the program, MB |\n|---|---|---|---|\n", s.messages, s.size, s.rounds)
	for _, w := range ways {
		all := got[w.name]
		if len(all) == 0 {
			continue
		}
		mid := func(of func(figure) float64) float64 {
			var list []float64
			for _, f := range all {
				list = append(list, of(f))
			}
			slices.Sort(list)
			return list[len(list)/2]
		}
		fmt.Printf("| %s | %.0f | %.3f | %.0f |\n", w.name, mid(func(f figure) float64 { return f.rate }), mid(func(f figure) float64 { return f.cpu }),
			mid(func(f figure) float64 { return float64(f.memory) / 1024 }))
	}
}

// processorTime is what a process and all that descend from it have used, 0 if it is gone.
func processorTime(pid int) time.Duration {
	used, _ := peerbench.ProcessorTime(pid)
	return used
}
