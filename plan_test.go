// The plan of the house, as data, and the tests that hold it. Do not edit the table
// to make a build pass: move the code to the floor where it belongs, or write a
// page in docs/decisions first.
package martlet

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/martlet-mail/martlet"

// plan says what each package may import besides the standard library: ours by
// folder under internal/ ("x/*" is every package in that folder), others by module
// path. A package that is not listed may not exist.
var plan = map[string][]string{
	"mail":  {},
	"fault": {},
	"turn":  {},
	"conf":  {"mail", "fault", "github.com/pelletier/go-toml/v2"},
	"dnsx":  {"fault", "github.com/miekg/dns", "golang.org/x/net", "golang.org/x/sync"},

	"dnsx/dnstest": {"github.com/miekg/dns"},

	"syntax/mime": {"mail", "fault", "golang.org/x/text", "golang.org/x/net"},
	"syntax/imap": {"mail", "fault", "golang.org/x/text"},
	"syntax/smtp": {"mail", "fault", "golang.org/x/text"},
	"syntax/sasl": {"fault", "github.com/xdg-go/scram", "github.com/xdg-go/stringprep", "golang.org/x/crypto", "golang.org/x/text"},

	"record": {"fault"},
	"disk":   {"github.com/cockroachdb/pebble/v2"},
	"trace":  {"mail", "fault", "github.com/cockroachdb/pebble/v2/vfs", "github.com/klauspost/compress"},

	"engine":                 {"mail", "fault"},
	"engine/pebble":          {"mail", "fault", "turn", "engine", "github.com/cockroachdb/pebble/v2", "github.com/cockroachdb/errors", "golang.org/x/sys"},
	"engine/postgres":        {"mail", "fault", "turn", "engine", "github.com/jackc/pgx/v5", "github.com/tidwall/btree"},
	"engine/postgres/pgtest": {"github.com/jackc/pgx/v5"},

	"engine/s3":         {"mail", "fault", "engine", "github.com/minio/minio-go/v7", "github.com/cockroachdb/pebble/v2/vfs"},
	"engine/s3/s3test":  {"github.com/minio/minio-go/v7"},
	"engine/enginetest": {"mail", "fault", "engine", "pgregory.net/rapid"},
	"engine/carry":      {"mail", "fault", "engine", "record"},

	"store": {"mail", "fault", "turn", "engine", "record", "syntax/mime", "github.com/klauspost/compress", "golang.org/x/text"},

	"node":  {"mail", "fault", "engine", "record"},
	"doubt": {"mail", "fault", "engine", "record"},

	"directory":         {"mail", "fault", "turn", "engine", "record", "store", "syntax/sasl", "directory/foreign", "golang.org/x/crypto", "golang.org/x/net", "golang.org/x/text", "golang.org/x/sync"},
	"directory/foreign": {"fault", "syntax/sasl", "github.com/go-crypt/x", "golang.org/x/crypto"},
	"move/former":       {"mail", "fault", "directory", "move", "move/imapc", "move/imapsource"},
	"move/roster":       {"mail", "fault"},

	"token":         {"fault", "syntax/sasl", "github.com/go-jose/go-jose/v4"},
	"backupmx":      {"mail", "fault"},
	"queue":         {"mail", "fault", "turn", "trace", "engine", "record", "store", "syntax/mime"},
	"sts":           {"mail", "fault", "dnsx", "engine", "record"},
	"send":          {"mail", "fault", "dnsx", "sts", "syntax/smtp", "syntax/mime", "github.com/xdg-go/scram", "golang.org/x/net"},
	"check":         {"mail", "fault", "dnsx", "syntax/mime", "check/spf", "check/dmarc", "check/authres", "check/dnsbl", "check/dkim", "check/arc"},
	"check/spf":     {"mail", "fault", "dnsx"},
	"check/dmarc":   {"mail", "fault", "dnsx", "syntax/mime"},
	"check/authres": {"mail", "fault", "dnsx", "syntax/mime"},
	"check/dnsbl":   {"fault", "dnsx"},
	"srs":           {"mail", "fault"},
	"check/dkim":    {"mail", "fault", "dnsx", "syntax/mime"},
	"check/arc":     {"mail", "fault", "check/dkim"},

	"report":           {"mail", "fault", "dnsx", "engine", "record", "syntax/mime", "check/dmarc", "report/aggregate", "report/tlsrpt"},
	"report/aggregate": {"fault", "syntax/mime"},
	"report/tlsrpt":    {"fault"},

	"milter":  {"mail", "fault", "github.com/d--j/go-milter"},
	"guard":   {"mail", "fault", "engine", "record"},
	"receive": {"milter", "mail", "fault", "turn", "trace", "check", "check/authres", "doubt", "store", "directory", "queue", "srs", "check/dkim", "check/arc", "syntax/mime", "syntax/smtp"},
	"bench":   {"mail", "fault"},

	"publish": {"fault", "dnsx", "directory", "github.com/miekg/dns"},

	"doctor": {"mail", "fault", "dnsx", "directory", "publish", "discover/clients", "check/spf", "check/dkim", "check/dmarc", "check/dnsbl", "sts"},

	"discover": {"mail", "fault", "dnsx", "golang.org/x/net"},

	"discover/format":  {"fault", "discover", "github.com/smallstep/pkcs7", "rsc.io/qr"},
	"discover/clients": {"mail", "fault", "dnsx", "discover", "github.com/smallstep/pkcs7", "golang.org/x/net"},

	"move":        {"mail", "fault", "turn", "store"},
	"move/remote": {"mail", "fault", "move"},

	"move/link":              {"mail", "fault", "engine", "record", "store", "move", "move/signin"},
	"move/signin":            {"fault"},
	"move/signin/signintest": {},

	"move/account": {"mail", "fault", "move"},
	"move/outward": {"mail", "fault", "move", "move/account", "move/imapc", "move/imapsource", "move/rfc822", "move/mbox", "move/maildir", "move/eml", "syntax/*", "golang.org/x/text"},

	"move/reach":      {},
	"move/imapc":      {"mail", "fault", "move/reach", "syntax/imap", "github.com/xdg-go/scram"},
	"move/imapsource": {"mail", "fault", "syntax/imap", "move", "move/imapc", "golang.org/x/text"},

	// Sources that are files, and POP3.
	"move/rfc822":            {"mail", "fault", "move", "syntax/mime", "github.com/klauspost/compress"},
	"move/rfc822/rfc822test": {"move"},
	"move/mbox":              {"mail", "fault", "move", "move/rfc822", "syntax/mime"},
	"move/takeout":           {"mail", "fault", "move", "move/rfc822", "move/mbox", "syntax/mime", "golang.org/x/text", "github.com/klauspost/compress"},
	"move/maildir":           {"mail", "fault", "move", "move/rfc822", "syntax/imap"},
	"move/eml":               {"mail", "fault", "move", "move/rfc822", "move/mbox"},
	"move/emlx":              {"mail", "fault", "move", "move/rfc822", "move/mbox"},
	"move/pop3source":        {"mail", "fault", "move", "move/reach", "move/rfc822", "github.com/xdg-go/scram"},

	"backup": {"mail", "fault", "engine", "record", "store", "directory", "queue", "github.com/klauspost/compress", "github.com/cockroachdb/pebble/v2/vfs"},

	"serve/netsrv":   {"fault", "turn", "golang.org/x/sys"},
	"serve/imapd":    {"mail", "fault", "turn", "store", "directory", "serve/netsrv", "syntax/*", "golang.org/x/text"},
	"serve/smtpd":    {"guard", "mail", "fault", "trace", "store", "directory", "receive", "serve/netsrv", "syntax/*"},
	"serve/pop3d":    {"mail", "fault", "store", "directory", "serve/netsrv", "syntax/*"},
	"serve/autoconf": {"mail", "fault", "dnsx", "discover", "discover/format"},
	"serve/admin":    {"mail", "fault", "trace", "store", "directory", "queue", "backup", "publish", "doctor", "report", "dnsx", "node", "move", "move/link", "move/signin", "move/account", "move/remote", "serve/netsrv"},
}

// unfenced packages: the binary wires everything; the tests of whole programs use
// everything.
var unfenced = []string{"cmd/martlet", "test/"}

// Fences. A function or file over the limit says why in a comment that begins
// "Long:".
const (
	maxFunction = 80
	maxFile     = 800
)

var badNames = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "shared"}

type source struct {
	path string // from the root
	dir  string
	file *ast.File
	fset *token.FileSet
	test bool
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "docs" || strings.HasPrefix(d.Name(), ".") && path != ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{path, filepath.ToSlash(filepath.Dir(path)), f, fset, strings.HasSuffix(path, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d files found: the test looks in the wrong place", len(all))
	}
	return all
}

func TestImportsGoDownOnly(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.dir == "." || slices.ContainsFunc(unfenced, func(p string) bool { return strings.HasPrefix(s.dir+"/", strings.TrimSuffix(p, "/")+"/") }) {
			continue
		}
		name, ok := strings.CutPrefix(s.dir, "internal/")
		allowed, listed := plan[name]
		if !ok || !listed {
			t.Errorf("%s: the package is not in the plan", s.path)
			continue
		}
		for _, imp := range s.file.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if !mayImport(allowed, path) {
				t.Errorf("%s: %s may not import %s", s.fset.Position(imp.Pos()), name, path)
			}
		}
	}
}

func mayImport(allowed []string, path string) bool {
	first, _, _ := strings.Cut(path, "/")
	if !strings.Contains(first, ".") {
		return true // standard library
	}
	for _, a := range allowed {
		ours := module + "/internal/" + a
		if folder, all := strings.CutSuffix(ours, "/*"); all && strings.HasPrefix(path, folder+"/") {
			return true
		}
		if path == ours || path == a || strings.HasPrefix(path, a+"/") && !strings.HasPrefix(path, module) {
			return true
		}
	}
	return false
}

// A plan that cannot fail holds nothing.
func TestPlanCanFail(t *testing.T) {
	for _, c := range []struct {
		allowed string
		path    string
		want    bool
	}{
		{"store", module + "/internal/store", true}, {"store", module + "/internal/engine", false},
		{"syntax/*", module + "/internal/syntax/imap", true}, {"syntax/*", module + "/internal/store", false},
		{"store", "fmt", true}, {"store", "github.com/cockroachdb/pebble/v2", false},
		{"golang.org/x/text", "golang.org/x/text/unicode/norm", true},
	} {
		if got := mayImport([]string{c.allowed}, c.path); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestSizesAndNames(t *testing.T) {
	for _, s := range sources(t) {
		lines := s.fset.File(s.file.Pos()).LineCount()
		if lines > maxFile && !s.test && !says(s.file.Comments, "Long:") {
			t.Errorf("%s has %d lines, the fence is %d", s.path, lines, maxFile)
		}
		if slices.Contains(badNames, s.file.Name.Name) || slices.Contains(badNames, strings.TrimSuffix(filepath.Base(s.path), ".go")) {
			t.Errorf("%s: a name that says nothing", s.path)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if n > maxFunction && !s.test && !(f.Doc != nil && strings.Contains(f.Doc.Text(), "Long:")) {
				t.Errorf("%s: %s has %d lines, the fence is %d", s.fset.Position(f.Pos()), f.Name.Name, n, maxFunction)
			}
			if f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s: init() has effects that nobody called for", s.fset.Position(f.Pos()))
			}
		}
	}
}

func says(groups []*ast.CommentGroup, word string) bool {
	return slices.ContainsFunc(groups, func(g *ast.CommentGroup) bool { return strings.Contains(g.Text(), word) })
}

// Each package says what it is for, once.
func TestPackageComments(t *testing.T) {
	docs, dirs := map[string]string{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		dirs[s.dir] = true
		if s.file.Doc != nil {
			docs[s.dir] += s.file.Doc.Text()
		}
	}
	for dir := range dirs {
		if len(docs[dir]) < 80 {
			t.Errorf("%s: the package comment is missing or too short", dir)
		}
	}
}

// Names that leave a package: few from a deep module.
func TestExportedNames(t *testing.T) {
	names := map[string]int{}
	for _, s := range sources(t) {
		if s.test || !strings.HasPrefix(s.dir, "internal/") {
			continue
		}
		for _, d := range s.file.Decls {
			names[strings.TrimPrefix(s.dir, "internal/")] += exported(d)
		}
	}
	limits := map[string]int{"engine": 20, "store": 100, "serve/imapd": 8, "serve/smtpd": 8, "serve/pop3d": 8, "serve/admin": 16, "serve/netsrv": 24}
	for name, n := range names {
		if limit := limits[name]; limit > 0 && n > limit {
			t.Errorf("%s exports %d names, the fence is %d", name, n, limit)
		}
	}
}

func exported(d ast.Decl) (n int) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.IsExported() {
			n++
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					n++
				}
			case *ast.ValueSpec:
				for _, id := range s.Names {
					if id.IsExported() {
						n++
					}
				}
			}
		}
	}
	return n
}
