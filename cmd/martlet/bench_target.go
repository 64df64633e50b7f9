package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/bench"
)

// target returns the server that the flags mean.
func (f *benchFlags) target(in io.Reader) (bench.Target, error) {
	if f.passwordStdin {
		line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
		if err != nil && err != io.EOF {
			return bench.Target{}, err
		}
		f.password = strings.TrimRight(line, "\r\n")
	}
	if f.password == "" {
		f.password = os.Getenv("MARTLET_BENCH_PASSWORD")
	}
	if f.stop != "" && f.restart == "" {
		return bench.Target{}, misused("bench: --stop needs --restart, with a command that starts the server again")
	}
	t := bench.Target{User: f.user, Password: f.password, Sender: f.sender, PID: f.pid, Data: f.data}
	for _, r := range f.recipients {
		more, err := eachNumber(r)
		if err != nil {
			return t, err
		}
		t.Recipients = append(t.Recipients, more...)
	}
	if f.user == "" && len(f.recipients) == 0 {
		return t, misused("bench: whose mail? give --user, or --recipient for lmtp and smtp alone")
	}
	for _, p := range []struct {
		flag, port string
		addr       *string
	}{{"imap", f.imap, &t.IMAP}, {"lmtp", f.lmtp, &t.LMTP}, {"smtp", f.smtp, &t.SMTP}} {
		if p.port == "" {
			continue
		}
		if n, err := strconv.Atoi(p.port); err != nil || n < 1 || n > 65535 {
			return t, misused("bench: --%s takes a port number, not %q", p.flag, p.port)
		}
		*p.addr = net.JoinHostPort(f.host, p.port)
	}
	if f.pidFile != "" {
		pid, err := readPID(f.pidFile)
		if err != nil {
			return t, err
		}
		t.PID = pid
	}
	return t, f.secure(&t)
}

// secure reads the flags about TLS.
func (f *benchFlags) secure(t *bench.Target) error {
	if f.tls == "" {
		if f.ca != "" || f.insecure {
			return misused("bench: --ca and --insecure are about TLS: add --tls starttls or --tls implicit")
		}
		return nil
	}
	modes := map[string]bench.Security{"none": bench.Plain, "starttls": bench.StartTLS, "implicit": bench.Implicit}
	ways := map[string]*bench.Security{"imap": &t.TLS.IMAP, "lmtp": &t.TLS.LMTP, "smtp": &t.TLS.SMTP}
	for part := range strings.SplitSeq(f.tls, ",") {
		protocol, mode, one := strings.Cut(part, "=")
		if !one {
			protocol, mode = "", part
		}
		sec, ok := modes[mode]
		if way := ways[protocol]; !ok || one && way == nil {
			return misused(`bench: --tls %q is none of "starttls", "implicit", and these for imap, lmtp or smtp, as "imap=implicit,lmtp=none"`, part)
		}
		for name, way := range ways {
			if !one || name == protocol {
				*way = sec
			}
		}
	}
	t.TLS.Config = &tls.Config{InsecureSkipVerify: f.insecure}
	if f.ca == "" {
		return nil
	}
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return misused("bench: --ca: %v", err)
	}
	t.TLS.Config.RootCAs = x509.NewCertPool()
	if !t.TLS.Config.RootCAs.AppendCertsFromPEM(pem) {
		return misused("bench: --ca %s holds no certificate in PEM", f.ca)
	}
	return nil
}

// amounts reads the flags that say how much.
func (f *benchFlags) amounts() (err error) {
	f.opt.Sizes = bench.Sizes(f.sizes)
	if !slices.Contains([]bench.Sizes{bench.Small, bench.Mixed, bench.Corpus}, f.opt.Sizes) {
		return misused("bench: --sizes is %s, %s or %s", bench.Small, bench.Mixed, bench.Corpus)
	}
	for _, v := range []int{f.opt.Messages, f.opt.Repeat, f.opt.Colds, f.opt.Idle, f.opt.IdleCPU, f.opt.Opened, f.opt.Listeners,
		int(f.opt.Duration), int(f.opt.Watch), int(f.opt.Interval), slices.Min(append(f.opt.Connections, 1)), f.opt.GrowMessages + 1} {
		if v < 1 {
			return misused("bench: numbers and times must be above zero")
		}
	}
	if f.opt.DiskBytes, err = parseAmount("disk-bytes", f.diskBytes); err != nil {
		return err
	}
	f.opt.GrowBytes, err = parseAmount("grow-bytes", f.growBytes)
	return err
}

// parseAmount reads bytes with a unit: 500MB, 10GB, 1000000.
func parseAmount(flag, s string) (int64, error) {
	number, unit := strings.ToUpper(strings.TrimSpace(s)), int64(1)
	for i, suffix := range []string{"KB", "MB", "GB", "TB"} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number = strings.TrimSpace(rest)
			for range i + 1 {
				unit *= 1000
			}
			break
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(number, "B"), 64)
	if err != nil || n*float64(unit) < 1 || n*float64(unit) > 1e15 {
		return 0, misused("bench: --%s takes a number of bytes, as 500MB or 10GB, not %q", flag, s)
	}
	return int64(n * float64(unit)), nil
}

// eachNumber returns the addresses that one with {a..b} in it stands for.
func eachNumber(s string) ([]string, error) {
	before, rest, ok := strings.Cut(s, "{")
	numbers, after, closed := strings.Cut(rest, "}")
	low, high, ranged := strings.Cut(numbers, "..")
	if !ok || !closed || !ranged {
		return []string{s}, nil
	}
	from, err1 := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	if err1 != nil || err2 != nil || to < from || to-from > 100_000 {
		return nil, misused("bench: --recipient %q: what is in the braces should be like {0..99}", s)
	}
	var all []string
	for n := from; n <= to; n++ {
		all = append(all, fmt.Sprintf("%s%d%s", before, n, after))
	}
	return all, nil
}

func readPID(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, failed("bench: --pid-file: %v", err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid < 1 {
		return 0, failed("bench: --pid-file: the first line of %s is no process id", path)
	}
	return pid, nil
}

// restarter returns the hook that runs the command of --restart.
func (f *benchFlags) restarter() func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		said, err := runCommand(ctx, "--restart", f.restart)
		if err != nil {
			return 0, err
		}
		if f.pidFile != "" {
			return readPID(f.pidFile)
		}
		lines := strings.Fields(said)
		if len(lines) == 0 {
			return 0, nil
		}
		pid, _ := strconv.Atoi(lines[len(lines)-1])
		return max(pid, 0), nil
	}
}

// stopper returns the hook that runs the command of --stop.
func (f *benchFlags) stopper() func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := runCommand(ctx, "--stop", f.stop)
		return err
	}
}

// runCommand runs a command of a flag and returns what it prints.
func runCommand(ctx context.Context, flag, command string) (string, error) {
	// A file and no pipe: a server that was started in the background keeps it open.
	out, err := os.CreateTemp("", "martlet-bench-")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	c := exec.CommandContext(ctx, "sh", "-c", command)
	c.Stdout, c.Stderr = out, out
	err = c.Run()
	said, _ := os.ReadFile(out.Name())
	if err != nil {
		return "", fmt.Errorf("the command of %s ended with %w, and said %q", flag, err, bytes.TrimSpace(said[:min(len(said), 300)]))
	}
	return string(said), nil
}
