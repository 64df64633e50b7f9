// Package conf is the configuration file. One struct, Config, is the file and its
// documentation: keys, order, meanings and defaults are all read from it.
//
// Load names the file, line and key of every fault it finds, not only of the first.
// The package opens no socket, does not look whether the files named exist, and
// holds nothing that changes while the server runs: domains, accounts and aliases
// are records of the directory.
//
// The format is TOML 1.0.
package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Fault is one thing wrong with a file.
type Fault struct {
	File    string
	Line    int    // from 1, or 0 if the fault is that something is not there
	Key     string // with its table: "queue.max_age", "listen[1].address"; or ""
	Problem string
}

// String returns file:line: key: problem.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	if f.Key != "" {
		b.WriteString(": " + f.Key)
	}
	return b.String() + ": " + f.Problem
}

// Faults is everything wrong with a file, in order of lines. Errors of Load and
// Parse hold one: errors.As finds it.
type Faults []Fault

// Error returns the faults, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// Default returns the configuration of an empty file.
func Default() *Config {
	c := new(Config)
	setDefaults(c)
	return c
}

// Files is where configurations lie: files of the system, or of a test.
type Files interface {
	Stat(name string) (fs.FileInfo, error)
	ReadFile(name string) ([]byte, error)
}

// Load reads the file at path. Relative paths in it are taken from dir, the absolute path
// of its folder.
func Load(disk Files, path, dir string) (*Config, error) { return load(disk, path, dir, false) }

// LoadBoth is Load for those who work on the stores of both engines: keys of the one that
// [store] engine does not name are no fault.
func LoadBoth(disk Files, path, dir string) (*Config, error) { return load(disk, path, dir, true) }

func load(disk Files, path, dir string, both bool) (*Config, error) {
	info, err := disk.Stat(path)
	if err == nil && info.Size() > maxFile {
		return nil, fault.Newf(fault.TooLarge, "%s is larger than a configuration can be", path)
	}
	text, err := disk.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.NotFound, "no configuration file at "+path, err)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "cannot read "+path, err)
	}
	c, err := parse(path, text, both)
	if err != nil {
		return nil, err
	}
	c.resolve(dir)
	return c, nil
}

// Parse reads the text of a file; name is for its faults. The error is of kind
// Invalid and holds Faults.
func Parse(name string, text []byte) (*Config, error) { return parse(name, text, false) }

func parse(name string, text []byte, both bool) (*Config, error) {
	c := Default()
	if faults := read(c, name, text, both); len(faults) > 0 {
		say := "configuration has a fault"
		if len(faults) > 1 {
			say = fmt.Sprintf("configuration has %d faults", len(faults))
		}
		return nil, fault.Wrap(fault.Invalid, say, faults)
	}
	return c, nil
}

// resolve makes the paths of c absolute.
func (c *Config) resolve(dir string) {
	paths := []*Path{
		&c.Data, &c.Discover.Overrides, &c.TLS.Certificate, &c.TLS.Key, &c.TLS.ClientCA, &c.TLS.ClientCRL, &c.TLS.ACME.CA, &c.OAuth.ClientSecretFile, &c.OAuth.CA,
		&c.Queue.Smarthost.PasswordFile, &c.Admin.Socket, &c.Links.CA, &c.Queue.CA, &c.Migrate.CA,
	}
	for i := range c.Links.Clients {
		paths = append(paths, &c.Links.Clients[i].SecretFile)
	}
	for i := range c.DNS.Update {
		paths = append(paths, &c.DNS.Update[i].KeyFile)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(string(*p)) {
			*p = Path(filepath.Join(dir, string(*p)))
		}
	}
}

// AdminSocket returns the path of the admin socket.
func (c *Config) AdminSocket() string {
	if c.Admin.Socket != "" {
		return string(c.Admin.Socket)
	}
	return filepath.Join(string(c.Data), "admin.sock")
}

// Secret returns the smarthost's password, read from its file if it names one.
func (s Smarthost) Secret(disk Files) (string, error) {
	if s.PasswordFile == "" {
		return s.Password, nil
	}
	return firstLine(disk, s.PasswordFile, "the smarthost's password file")
}

// Secret returns the secret with which the issuer is asked, "" if there is none.
func (o OAuth) Secret(disk Files) (string, error) {
	if o.ClientSecretFile == "" {
		return "", nil
	}
	return firstLine(disk, o.ClientSecretFile, "the file of client_secret_file")
}

func firstLine(disk Files, file Path, what string) (string, error) {
	text, err := disk.ReadFile(string(file))
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, "cannot read "+what, err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
