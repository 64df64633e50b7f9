// Package dovecot starts a private Dovecot on loopback, from Debian's packages, for
// tests and benchmarks beside it.
//
// It takes nothing from /etc/dovecot and leaves nothing outside the given directory.
// It must be started by root, as Dovecot is everywhere; mail is written as the system
// user "mail".
package dovecot

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/test/peers/process"
)

// Format is how mailboxes are kept.
type Format string

const (
	Maildir Format = "maildir" // a file for each message
	MDBox   Format = "mdbox"   // many messages in a file
)

// Password opens every account; any login name is one.
const Password = "secret"

// Options of Run.
type Options struct {
	Dir         string // new, or from an earlier Run
	Format      Format
	Certificate string // PEM files; empty means no TLS
	Key         string

	// Users and Masters are password files (name:{SCHEME}hash), of people and of those who may
	// log in for anybody; without them any login name and Password are right.
	Users, Masters string

	// Hibernate has sessions in IDLE handed to one process that holds them all.
	Hibernate bool
	// Unsynced has nothing written through to the disk: for filling a mailbox in less
	// time.
	Unsynced bool
}

// Server is a running Dovecot.
type Server struct {
	IMAP, LMTP, POP3 string // host:port
	IMAPS            string // empty without a certificate
	Log              string // path of the log file
	PID              int
	path             string           // of the configuration
	run              *process.Process // nil when it does not run
}

// Text returns the configuration with words in place of paths, ports and numbers, to
// be shown.
func Text(opt Options) string {
	opt.Dir = "DIR"
	return text(opt, [2]string{"UID", "GID"}, []string{"IMAP_PORT", "LMTP_PORT", "POP3_PORT", "IMAPS_PORT"})
}

func text(opt Options, ids [2]string, ports []string) string {
	imaps, out := "0", config
	if opt.Certificate != "" {
		imaps = ports[3]
	}
	out = fmt.Sprintf(out, opt.Dir, opt.Format, ids[0], ids[1], Password, ports[0], ports[1], ports[2], imaps)
	if opt.Users != "" {
		out = strings.Replace(out, fmt.Sprintf(anybody, Password), fmt.Sprintf(people, opt.Dir), 1)
	}
	if opt.Certificate == "" {
		out += "ssl = no\n"
	} else {
		out += fmt.Sprintf(tlsConfig, opt.Certificate, opt.Key)
	}
	if opt.Hibernate {
		out += hibernation
	}
	if opt.Unsynced {
		out += "mail_fsync = never\n"
	}
	return out
}

// Version returns what the installed program calls itself, or "".
func Version() string {
	out, _ := exec.Command("dovecot", "--version").Output()
	return strings.TrimSpace(string(out))
}

// config is the whole configuration; what differs from Dovecot's defaults are paths,
// ports, sign-in, and limits that a load of thousands of connections by one user
// from one address would meet. Syncing to disk is as by default.
const config = `# mail_fsync is left at its default, "optimized": what is delivered is synced.
protocols = imap lmtp pop3
listen = 127.0.0.1
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/dovecot.log
disable_plaintext_auth = no
mail_location = %[2]s:%[1]s/mail/%%u
mail_uid = %[3]s
mail_gid = %[4]s
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 0
default_client_limit = 20000
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    auto = create
    special_use = \Sent
  }
  mailbox Trash {
    auto = create
    special_use = \Trash
  }
}
passdb {
  driver = static
  args = password=%[5]s
}
userdb {
  driver = static
  args = uid=%[3]s gid=%[4]s home=%[1]s/home/%%u allow_all_users=yes
}
service imap-login {
  service_count = 0
  client_limit = 20000
  process_min_avail = 1
  inet_listener imap {
    port = %[6]s
  }
  inet_listener imaps {
    port = %[9]s
  }
}
service pop3-login {
  inet_listener pop3 {
    port = %[8]s
  }
  inet_listener pop3s {
    port = 0
  }
}
service imap {
  process_limit = 12000
}
service lmtp {
  process_min_avail = 4
  inet_listener lmtp {
    address = 127.0.0.1
    port = %[7]s
  }
}
service anvil {
  client_limit = 20000
}
service stats {
  client_limit = 20000
}
`

// anybody is replaced by people if they are known by name.
const anybody = `passdb {
  driver = static
  args = password=%s
}
`

const people = `auth_master_user_separator = *
auth_mechanisms = plain login
auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
passdb {
  driver = passwd-file
  args = %[1]s/masters
  master = yes
}
passdb {
  driver = passwd-file
  args = %[1]s/users
}
`

const tlsConfig = `ssl = yes
ssl_cert = <%s
ssl_key = <%s
`

// hibernation is what Dovecot's page "Hibernation" says, with the timeout it gives.
const hibernation = `imap_hibernate_timeout = 5s
service imap {
  extra_groups = $default_internal_group
  unix_listener imap-master {
    user = $default_internal_user
  }
}
service imap-hibernate {
  unix_listener imap-hibernate {
    mode = 0660
    group = $default_internal_group
  }
}
`

// Start runs Dovecot in dir, which must be new or from an earlier Start.
func Start(dir string, format Format) (*Server, error) { return Run(Options{Dir: dir, Format: format}) }

// Run runs Dovecot and returns when it listens.
func Run(opt Options) (*Server, error) {
	u, err := user.Lookup("mail")
	if err != nil {
		return nil, fmt.Errorf("dovecot: %w", err)
	}
	ports, err := process.FreePorts(4)
	if err != nil {
		return nil, err
	}
	if err := directories(opt.Dir, u); err != nil {
		return nil, err
	}
	s := &Server{IMAP: "127.0.0.1:" + ports[0], LMTP: "127.0.0.1:" + ports[1], POP3: "127.0.0.1:" + ports[2],
		Log: filepath.Join(opt.Dir, "dovecot.log"), path: filepath.Join(opt.Dir, "dovecot.conf")}
	if opt.Certificate != "" {
		s.IMAPS = "127.0.0.1:" + ports[3]
	}
	for name, list := range map[string]string{"users": opt.Users, "masters": opt.Masters} {
		if err := os.WriteFile(filepath.Join(opt.Dir, name), []byte(list), 0o644); err != nil {
			return nil, err
		}
	}
	conf := text(opt, [2]string{u.Uid, u.Gid}, ports)
	if err := os.WriteFile(s.path, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return s, s.Restart()
}

func directories(dir string, owner *user.User) error {
	for _, sub := range []string{"run", "state", "mail", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	uid, gid := 0, 0
	fmt.Sscan(owner.Uid, &uid)
	fmt.Sscan(owner.Gid, &gid)
	for _, sub := range []string{"mail", "home"} {
		if err := os.Chown(filepath.Join(dir, sub), uid, gid); err != nil {
			return fmt.Errorf("dovecot: needs root: %w", err)
		}
	}
	return passable(dir)
}

// Restart starts Dovecot in its directory again, after Stop, on the same ports.
func (s *Server) Restart() error {
	var err error
	if s.run, err = process.Start(exec.Command("dovecot", "-F", "-c", s.path), func() bool { return listens(s.IMAP) }); err != nil {
		log, _ := os.ReadFile(s.Log)
		return fmt.Errorf("dovecot (Debian: apt-get install dovecot-imapd dovecot-lmtpd dovecot-pop3d): %w%s", err, log)
	}
	s.PID = s.run.PID
	return nil
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// Stop ends Dovecot with all its processes. It may be called more than once.
func (s *Server) Stop() {
	if s.run == nil {
		return
	}
	s.run.Signal(syscall.SIGTERM)
	s.run.Ended(5 * time.Second)
	s.run.Kill() // also who holds sessions that hibernate, and its socket with them
	s.run = nil
	for range 100 {
		if !listens(s.IMAP) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// passable lets other users through the temporary directories above dir.
func passable(dir string) error {
	for d := dir; strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return err
		}
		if err := os.Chmod(d, info.Mode().Perm()|0o011); err != nil {
			return err
		}
	}
	return nil
}
