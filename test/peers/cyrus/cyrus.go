// Package cyrus starts a private Cyrus IMAP server on loopback, from Debian's packages,
// for benchmarks beside it.
//
// Debian lets only one IMAP server be installed: cyrus-common, which holds most of
// Cyrus, goes beside Dovecot, but cyrus-imapd, with imapd and idled, is unpacked into a
// directory (test/deps.sh bench does it).
//
// It takes nothing from /etc and leaves nothing outside the given directory but its
// lock files, which its guide wants in memory; Stop removes them. All of it runs as the
// system user "cyrus", so that it must be started by root.
package cyrus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/test/peers/process"
)

// Password opens every account.
const Password = "secret"

// Options of Start.
type Options struct {
	Dir         string   // new, or from an earlier Start
	Unpacked    string   // where cyrus-imapd is unpacked, if it is not installed
	Domain      string   // of the accounts
	Users       []string // local parts
	Certificate string   // PEM files; empty means no TLS
	Key         string

	Proxy string // the one of Users who may act for the others; "": nobody

	// Unsynced has nothing written through to the disk, by way of Debian's package
	// eatmydata: for filling a mailbox in less time.
	Unsynced bool
}

// Server is a running Cyrus.
type Server struct {
	IMAP, IMAPS, LMTP string // host:port; IMAPS is empty without a certificate
	PID               int
	opt               Options
	uid, gid          uint32
	run               *process.Process // nil when it does not run
}

// imapdConf is the whole of imapd.conf: Debian's, with what the guide says beside it.
// Everything that decides what is synced is left at its default.
const imapdConf = `# Storage, as by default: twoskip databases, synced; each message a file, synced.
configdirectory: %[1]s/conf
partition-default: %[1]s/mail
defaultpartition: default
hashimapspool: yes
# As the guide advises: names of processes and locks lie in memory, and what STATUS
# says is kept.
proc_path: %[2]s/proc
mboxname_lockpath: %[2]s/lock
statuscache: yes
# Repeated Message-IDs to one mailbox are dropped, as by default; the benchmark sends none.
duplicatesuppression: yes
# Accounts come to be with their first mail or sign-in, without quota.
autocreate_quota: 0
autocreate_post: yes
virtdomains: userid
defaultdomain: %[3]s
servername: %[3]s
loginrealms: %[3]s
unixhierarchysep: yes
altnamespace: yes
lmtp_downcase_rcpt: yes
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: %[1]s/sasldb2
sasl_mech_list: PLAIN
`

const tlsConf = `tls_server_cert: %s
tls_server_key: %s
`

// cyrusConf is the whole of cyrus.conf: processes wait for connections, as the guide
// advises for speed, and idled tells sessions in IDLE of news.
const cyrusConf = `START {
  recover cmd="%[1]s/ctl_cyrusdb -C %[2]s/imapd.conf -r"
}
SERVICES {
  imap cmd="%[6]s/imapd -C %[2]s/imapd.conf -U 250" listen="127.0.0.1:%[3]s" prefork=5 maxchild=-1
%[5]s  lmtp cmd="%[1]s/lmtpd -C %[2]s/imapd.conf -a" listen="127.0.0.1:%[4]s" prefork=5 maxchild=-1
}
EVENTS {
  checkpoint cmd="%[1]s/ctl_cyrusdb -C %[2]s/imapd.conf -c" period=30
}
DAEMON {
  idled cmd="%[6]s/idled -C %[2]s/imapd.conf"
}
`

const imapsLine = `  imaps cmd="%s/imapd -C %s/imapd.conf -s -U 250" listen="127.0.0.1:%s" prefork=2 maxchild=-1
`

// binaries is where Debian has the programs.
const binaries = "/usr/lib/cyrus/bin"

// programs returns the directory of imapd and idled. Unpacked ones are copied into the
// server's, since the user cyrus may not be able to read where they lie.
func (s *Server) programs() (string, error) {
	if _, err := os.Stat(binaries + "/imapd"); err == nil {
		return binaries, nil
	}
	to := filepath.Join(s.opt.Dir, "programs")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"imapd", "idled"} {
		b, err := os.ReadFile(filepath.Join(s.opt.Unpacked, binaries, name))
		if err != nil {
			return "", fmt.Errorf("cyrus: %w (test/deps.sh bench)", err)
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o755); err != nil {
			return "", err
		}
	}
	return to, nil
}

// Text returns the configuration with words in place of paths and ports, to be shown.
func Text(domain string) string {
	return "# imapd.conf\n" + fmt.Sprintf(imapdConf, "DIR", "DIR_IN_MEMORY", domain) +
		fmt.Sprintf(tlsConf, "CERTIFICATE", "KEY") +
		"\n# cyrus.conf\n" + fmt.Sprintf(cyrusConf, binaries, "DIR", "IMAP_PORT", "LMTP_PORT",
		fmt.Sprintf(imapsLine, binaries, "DIR", "IMAPS_PORT"), binaries)
}

// Version returns what the installed package calls itself, or "".
func Version() string {
	out, _ := exec.Command("dpkg-query", "-W", "-f", "${Version}", "cyrus-common").Output()
	return string(out)
}

// Start runs Cyrus and returns when it greets.
func Start(opt Options) (*Server, error) {
	s := &Server{opt: opt}
	u, err := user.Lookup("cyrus")
	if err != nil {
		return nil, fmt.Errorf("cyrus: %w (test/deps.sh bench)", err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	s.uid, s.gid = uint32(uid), uint32(gid)
	ports, err := process.FreePorts(3)
	if err != nil {
		return nil, err
	}
	s.IMAP, s.LMTP = "127.0.0.1:"+ports[0], "127.0.0.1:"+ports[1]
	if opt.Certificate != "" {
		s.IMAPS = "127.0.0.1:" + ports[2]
	}
	if err := s.prepare(ports); err != nil {
		return nil, err
	}
	return s, s.Restart()
}

// prepare makes the directories, the accounts and the configuration.
func (s *Server) prepare(ports []string) error {
	dir := s.opt.Dir
	for _, sub := range []string{"conf/db", "conf/log", "conf/socket", "conf/msg", "conf/user", "conf/quota", "mail"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "conf/user_deny.db"), nil, 0o644); err != nil {
		return err
	}
	if err := s.accounts(); err != nil {
		return err
	}
	programs, err := s.programs()
	if err != nil {
		return err
	}
	imapd := fmt.Sprintf(imapdConf, dir, s.memory(), s.opt.Domain)
	imaps := ""
	if s.opt.Certificate != "" {
		imapd += fmt.Sprintf(tlsConf, s.opt.Certificate, s.opt.Key)
		imaps = fmt.Sprintf(imapsLine, programs, dir, ports[2])
	}
	if s.opt.Proxy != "" {
		imapd += "proxyservers: " + s.opt.Proxy + "\n" // of the default domain
	}
	if err := os.WriteFile(filepath.Join(dir, "imapd.conf"), []byte(imapd), 0o644); err != nil {
		return err
	}
	text := fmt.Sprintf(cyrusConf, binaries, dir, ports[0], ports[1], imaps, programs)
	if err := os.WriteFile(filepath.Join(dir, "cyrus.conf"), []byte(text), 0o644); err != nil {
		return err
	}
	for d := dir; strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	return s.own(dir)
}

// accounts writes the passwords, where they are not there yet.
func (s *Server) accounts() error {
	path := filepath.Join(s.opt.Dir, "sasldb2")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	for _, u := range s.opt.Users {
		cmd := exec.Command("saslpasswd2", "-p", "-c", "-f", path, "-u", s.opt.Domain, u)
		cmd.Stdin = strings.NewReader(Password)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cyrus: saslpasswd2: %w: %s (test/deps.sh bench)", err, out)
		}
	}
	return nil
}

// own gives the directory to the user cyrus. What an earlier Start wrote is its own
// already.
func (s *Server) own(dir string) error {
	if info, err := os.Stat(filepath.Join(dir, "mail")); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == s.uid {
			return os.Chown(filepath.Join(dir, "sasldb2"), int(s.uid), int(s.gid))
		}
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(path, int(s.uid), int(s.gid)); err != nil {
			return fmt.Errorf("cyrus: needs root: %w", err)
		}
		return nil
	})
}

// memory is the directory of the lock files: in memory where the system has such a
// file system.
func (s *Server) memory() string {
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return filepath.Join(s.opt.Dir, "run")
	}
	_, port, _ := net.SplitHostPort(s.IMAP)
	return "/dev/shm/martlet-cyrus-" + port
}

// Restart starts Cyrus in its directory again, after Stop, on the same ports.
func (s *Server) Restart() error {
	for _, sub := range []string{"proc", "lock"} {
		path := filepath.Join(s.memory(), sub)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.Chown(path, int(s.uid), int(s.gid)); err != nil {
			return err
		}
	}
	argv := []string{binaries + "/master", "-C", filepath.Join(s.opt.Dir, "imapd.conf"),
		"-M", filepath.Join(s.opt.Dir, "cyrus.conf"), "-p", filepath.Join(s.opt.Dir, "conf/master.pid"), "-D"}
	if s.opt.Unsynced {
		argv = slices.Insert(argv, 0, "eatmydata")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.opt.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.uid, Gid: s.gid}}
	var err error
	if s.run, err = process.Start(cmd, func() bool { return greets(s.IMAP) && greets(s.LMTP) }); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	s.PID = s.run.PID
	return nil
}

func greets(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(make([]byte, 100))
	return err == nil && n > 0
}

// Stop ends Cyrus with all its processes. It may be called more than once.
func (s *Server) Stop() error {
	if s.run == nil {
		return nil
	}
	defer os.RemoveAll(s.memory())
	// SIGQUIT waits for the children; one that still has a client is not waited for long.
	s.run.Signal(syscall.SIGQUIT)
	ended := s.run.Ended(5 * time.Second)
	if !ended {
		s.run.Signal(syscall.SIGTERM)
		ended = s.run.Ended(5 * time.Second)
	}
	s.run.Kill()
	s.run = nil
	if !ended {
		return errors.New("cyrus: still running 10 s after the signal")
	}
	return nil
}
