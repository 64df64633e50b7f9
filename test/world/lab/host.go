package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/martlet-mail/martlet/test/peers/process"
)

// Host is one machine of the world.
type Host struct {
	Name string     // its name in DNS
	IPv4 netip.Addr // of the wire; invalid if it has none
	IPv6 netip.Addr // invalid if it has none
	Dir  string     // its state; the same path inside and outside
	PID  int        // of the process that holds its namespaces

	world *World
	cmd   *exec.Cmd
	leash io.Closer // its end ends the host
	net   *os.File  // the network namespace
	log   net.PacketConn
}

// Networks of the world. They are of the kind that is given out, as servers connect to no other
// (dnsx.Public); whose they are out there does not matter, for no wire leads there.
var (
	wide4 = netip.MustParsePrefix("198.20.0.0/15")
	wide6 = netip.MustParsePrefix("3ffe:db8::/32")
)

// setup makes a host of the process that runs it, which then waits until its standard
// input ends. Arguments: state folder, unpacked programs, name.
//
// /usr and /etc have the unpacked programs beneath the machine's own. /etc may be written;
// what is written is seen by this host alone. /dev has a /dev/log of its own.
const setup = `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/up /mnt/work
mount -t overlay overlay -o lowerdir=/etc:"$2"/etc,upperdir=/mnt/up,workdir=/mnt/work /etc
mount -t overlay overlay -o lowerdir=/usr:"$2"/usr /usr
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock "$1"/var/spool "$1"/var/lib "$1"/var/log
mount --bind "$1"/var/spool /var/spool
mount --bind "$1"/var/lib /var/lib
mount --bind "$1"/var/log /var/log
mkdir /mnt/dev
for d in null zero full random urandom tty; do touch /mnt/dev/$d; mount --bind /dev/$d /mnt/dev/$d; done
mkdir /mnt/dev/shm /mnt/dev/pts
ln -s /proc/self/fd /mnt/dev/fd
ln -s /proc/self/fd/0 /mnt/dev/stdin
ln -s /proc/self/fd/1 /mnt/dev/stdout
ln -s /proc/self/fd/2 /mnt/dev/stderr
ln -s pts/ptmx /mnt/dev/ptmx
ln -s "$1"/syslog.sock /mnt/dev/log
mount --rbind /mnt/dev /dev
mount -t tmpfs tmpfs /dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
hostname "$3"
ip link set lo up
echo up
exec 3<&0
cat <&3 >/dev/null &
wait $!
`

// newHost starts a machine that is connected to nothing.
func newHost(name, state string) (*Host, error) {
	h := &Host{Name: name, Dir: filepath.Join(state, name)}
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		return nil, err
	}
	h.cmd = exec.Command("sh", "-c", setup, "host", h.Dir, unpacked(), name)
	h.cmd.SysProcAttr = apart()
	leash, err := h.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	h.cmd.Stderr = &said
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	h.leash, h.PID = leash, h.cmd.Process.Pid
	up := make([]byte, 3)
	if _, err := io.ReadFull(out, up); err != nil {
		h.close()
		return nil, fmt.Errorf("%s does not come up: %s", name, said.String())
	}
	if h.net, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", h.PID)); err != nil {
		h.close()
		return nil, err
	}
	return h, h.syslog()
}

// syslog writes what the host's programs log to syslog.log.
func (h *Host) syslog() error {
	path := filepath.Join(h.Dir, "syslog.sock")
	os.Remove(path)
	in, err := net.ListenPacket("unixgram", path)
	if err != nil {
		return err
	}
	os.Chmod(path, 0o666)
	file, err := os.Create(filepath.Join(h.Dir, "syslog.log"))
	if err != nil {
		return err
	}
	h.log = in
	go func() {
		defer file.Close()
		line := make([]byte, 16<<10)
		for {
			n, _, err := in.ReadFrom(line)
			if err != nil {
				return
			}
			file.Write(append(bytes.TrimSpace(line[:n]), '\n'))
		}
	}()
	return nil
}

// close ends all that runs on the host.
func (h *Host) close() {
	if h.log != nil {
		h.log.Close()
	}
	if h.net != nil {
		h.net.Close()
	}
	h.leash.Close()
	h.cmd.Process.Kill()
	h.Wake()
	h.cmd.Wait()
}

// Wake has those go on that have led programs into the host. nsenter stops when its program is
// stopped, and may do so after both were told to go on; then it does not take leave of the program
// when that is dead, and a host does not end before.
func (h *Host) Wake() {
	for _, pid := range h.led() {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}

// led returns the processes that have led programs into the host.
func (h *Host) led() (pids []int) {
	leads := fmt.Appendf(nil, "nsenter\x00-t\x00%d\x00", h.PID)
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(line, leads) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Place of a new host. Number gives it 198.20.N.10 and 3ffe:db8:N::10.
type Place struct {
	Number int
	Only4  bool     // no IPv6
	Alias  []string // more names with its addresses
}

// Host brings a host into the world: its addresses, its names in DNS (whose zones must be
// there) and the way back from address to name.
func (w *World) Host(name string, at Place) (*Host, error) {
	h, err := w.connect(name, at)
	if err != nil {
		return nil, err
	}
	return h, w.DNS.publish(h, at.Alias)
}

// connect starts a host and gives it its addresses.
func (w *World) connect(name string, at Place) (*Host, error) {
	h, err := newHost(name, w.Dir)
	if err != nil {
		return nil, err
	}
	h.world = w
	w.mu.Lock()
	w.hosts = append(w.hosts, h)
	w.mu.Unlock()
	h.IPv4 = netip.AddrFrom4([4]byte{198, 20, byte(at.Number), 10})
	script := fmt.Sprintf("nsenter -t %d -n ip link add n%d type veth peer name eth0 netns %d && nsenter -t %d -n ip link set n%d master wire up\n", w.wire.PID, at.Number, h.PID, w.wire.PID, at.Number)
	if err := shell(script); err != nil {
		return nil, err
	}
	script = fmt.Sprintf("ip addr add %s/%d dev eth0\n", h.IPv4, wide4.Bits())
	if at.Only4 {
		script = "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6\n" + script
	} else {
		b := wide6.Addr().As16()
		b[5], b[15] = byte(at.Number), 0x10
		h.IPv6 = netip.AddrFrom16(b)
		script += fmt.Sprintf("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad\nip addr add %s/%d dev eth0 nodad\n", h.IPv6, wide6.Bits())
	}
	if err := h.run(script + "ip link set eth0 up"); err != nil {
		return nil, err
	}
	return h, h.furnish()
}

// people that the programs run as, beside the machine's own.
const people = `knot:x:7001:7001::/:/bin/false
unbound:x:7002:7001::/:/bin/false
Debian-exim:x:7003:7001::/:/bin/false
opensmtpd:x:7004:7001::/var/lib/opensmtpd/empty:/bin/false
opensmtpq:x:7005:7001::/:/bin/false
opendkim:x:7006:7001::/:/bin/false
opendmarc:x:7007:7001::/:/bin/false
_rspamd:x:7008:7001::/:/bin/false
boxes:x:7009:7001::/:/bin/sh
martlet:x:7010:7001::/:/bin/false
`

// Whom mailboxes of the peers and the data of ours belong to.
const boxUser, ourUser, boxGroup = 7009, 7010, 7001

// furnish writes /etc: where names are asked, who is trusted, who there is.
func (h *Host) furnish() error {
	users, groups := read("/etc/passwd"), read("/etc/group")
	for line := range strings.Lines(people) {
		name, _, _ := strings.Cut(line, ":")
		users = without(users, name+":") + line
		groups = without(groups, name+":") + name + ":x:" + strings.Split(line, ":")[2] + ":\n"
	}
	groups += "lab:x:7001:\n"
	for name, text := range map[string]string{
		"passwd": users, "group": groups, "mailname": h.Name + "\n", "hostname": h.Name + "\n",
		"hosts":                         fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n", h.IPv4, h.Name), // programs look for themselves, also before there is DNS
		"resolv.conf":                   fmt.Sprintf("nameserver %s\noptions edns0 trust-ad timeout:3 attempts:2\n", Resolver4),
		"nsswitch.conf":                 "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
		"ssl/certs/ca-certificates.crt": read("/etc/ssl/certs/ca-certificates.crt") + h.world.CA.Text(),
	} {
		if err := h.Write("/etc/"+name, text); err != nil {
			return err
		}
	}
	return nil
}

func without(lines, start string) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		if !strings.HasPrefix(line, start) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Write writes a file as the host sees it, and makes the folders that it lies in.
func (h *Host) Write(path, text string) error {
	there := fmt.Sprintf("/proc/%d/root%s", h.PID, path)
	if err := os.MkdirAll(filepath.Dir(there), 0o755); err != nil {
		return err
	}
	os.Remove(there) // it may be a link
	return os.WriteFile(there, []byte(text), 0o644)
}

// Command is a command that runs on the host. Ending its process group ends it.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(h.PID), "-m", "-n", "-u", "-i", "-p", "--", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C.UTF-8")
	return cmd
}

// Enter is what a person types to be on the host.
func (h *Host) Enter() string { return fmt.Sprintf("nsenter -t %d -m -n -u -i -p", h.PID) }

// Output runs a command on the host and returns what it printed; an error holds what it
// said.
func (h *Host) Output(name string, args ...string) (string, error) {
	cmd := h.Command(name, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %s %s: %w: %s%s", h.Name, name, strings.Join(args, " "), err, said.String(), out.String())
	}
	return out.String(), nil
}

// run has a shell on the host do something.
func (h *Host) run(script string) error {
	_, err := h.Output("sh", "-ec", script)
	return err
}

// shell does something on the machine itself.
func shell(script string) error {
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// Serve runs a server on the host until the host ends; ready says when it answers.
func (h *Host) Serve(ready func() bool, name string, args ...string) (*process.Process, error) {
	p, err := process.Start(h.Command(name, args...), ready)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w\n%s", h.Name, name, err, h.world.Logs(10))
	}
	return p, nil
}

// Answers returns a function that tells whether something listens there, as the host
// sees it.
func (h *Host) Answers(address string) func() bool {
	return func() bool {
		c, err := h.Dial(address)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
}

// Greets returns a function that tells whether something there says it is ready to take
// mail. Ports may be open for longer.
func (h *Host) Greets(address string) func() bool {
	return func() bool {
		c, err := h.Dial(address)
		if err != nil {
			return false
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		greeting := make([]byte, 3)
		_, err = io.ReadFull(c, greeting)
		return err == nil && string(greeting) == "220"
	}
}

// Dial connects from the host to an address that is no name.
func (h *Host) Dial(address string) (net.Conn, error) {
	return h.DialContext(context.Background(), "tcp", address)
}

// DialContext connects from the host; addresses may not be names.
func (h *Host) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if inside := h.inside(func() { c, err = d.DialContext(ctx, network, address) }); inside != nil {
		return nil, inside
	}
	return c, err
}

// Listen listens on the host.
func (h *Host) Listen(network, address string) (l net.Listener, err error) {
	if inside := h.inside(func() { l, err = net.Listen(network, address) }); inside != nil {
		return nil, inside
	}
	return l, err
}
