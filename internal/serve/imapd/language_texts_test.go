package imapd

import (
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// speakers are the packages and files whose sentences a client may read: these here, and
// those whose faults are passed on.
var speakers = []string{
	"../../directory/login.go", "../../directory/proof.go", "../../directory/brake.go", "../../directory/hash.go", "../../directory/elsewhere.go", "../../directory/firstlogin.go",
	"../../engine", "../../engine/pebble", "../../engine/postgres/lonely.go", "../../engine/postgres/postgres.go", "../../engine/postgres/retry.go",
	"../../engine/postgres/router.go", "../../engine/postgres/send.go", "../../engine/postgres/settle.go", "../../fault", "../../mail/rights.go", "../../store", "../../syntax/imap", "../../syntax/mime",
	"../../syntax/sasl", "../../token/claims.go", "../../token/jwt.go", "../netsrv/conn.go", "../netsrv/compress.go",
	"../netsrv/count.go", "../netsrv/tls.go", ".",
}

// sayers are the functions that are given a sentence or a part of one, and which
// argument it is. Those whose parameter is called say, what or why are found by that.
func sayers() map[string]int {
	return map[string]int{
		"New": 1, "Newf": 1, "Wrap": 1, // of package fault
		"ok": 0, "okCode": 1, "no": 1, "bad": 0, "note": 2, "say": 0,
	}
}

// findSayers adds those of a file.
func findSayers(f *ast.File, sayers map[string]int) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		at := 0
		for _, field := range fn.Type.Params.List {
			for _, name := range field.Names {
				if _, known := sayers[fn.Name.Name]; !known && (name.Name == "say" || name.Name == "what" || name.Name == "why") {
					sayers[fn.Name.Name] = at
				}
				at++
			}
		}
	}
}

// textFinder finds the sentences of one package, with %s for what is filled in.
type textFinder struct {
	found  map[string]string // text to where it is
	consts map[string]string
	local  map[string]string // those of the function
	sayers map[string]int
	fset   *gotoken.FileSet
}

// findTexts returns every sentence that may be said, by where it is said.
func findTexts(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{otherUsers: "shared.go"}
	sayers := sayers()
	var finders []*textFinder
	var parsed [][]*ast.File
	for _, from := range speakers {
		files := []string{from}
		if !strings.HasSuffix(from, ".go") {
			files, _ = filepath.Glob(from + "/*.go")
		}
		x := &textFinder{found: all, consts: map[string]string{}, fset: gotoken.NewFileSet(), sayers: sayers}
		var of []*ast.File
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(x.fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			of = append(of, f)
			constants(f.Decls, x.consts)
			findSayers(f, sayers)
		}
		if len(of) == 0 {
			t.Fatalf("%s says nothing", from)
		}
		finders, parsed = append(finders, x), append(parsed, of)
	}
	for i, x := range finders {
		for _, f := range parsed[i] {
			ast.Inspect(f, x.look)
		}
	}
	return all
}

// constants notes the sentences that have a name.
func constants(decls []ast.Decl, into map[string]string) {
	for _, d := range decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != gotoken.CONST {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			for i := range v.Values {
				if text, ok := literal(v.Values[i]); ok {
					into[v.Names[i].Name] = text
				}
			}
		}
	}
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != gotoken.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// look notes the texts of calls, and those that are put into a reply.
func (x *textFinder) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		x.local = map[string]string{}
		ast.Inspect(n, func(n ast.Node) bool {
			if d, ok := n.(*ast.DeclStmt); ok {
				constants([]ast.Decl{d.Decl}, x.local)
			}
			return true
		})
		// Sentences that are put together in a function of their own.
		if n.Name.Name == "wrongState" || n.Name.Name == "Say" || n.Name.Name == "trouble" {
			ast.Inspect(n, func(n ast.Node) bool {
				if r, ok := n.(*ast.ReturnStmt); ok {
					x.note(r.Results[0])
				}
				return true
			})
		}
	case *ast.CallExpr:
		name, of := called(n)
		if (name == "New" || name == "Newf" || name == "Wrap") && (of != "fault" || len(n.Args) < 2 || isKind(n.Args[0], "Internal")) {
			return true
		}
		if at, ok := x.sayers[name]; ok && at < len(n.Args) {
			x.note(n.Args[at])
		}
	case *ast.AssignStmt:
		if to, ok := n.Lhs[0].(*ast.SelectorExpr); ok && to.Sel.Name == "text" {
			x.note(n.Rhs[0])
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "text" || key.Name == "Say") {
			x.note(n.Value)
		}
	}
	return true
}

func called(c *ast.CallExpr) (name, of string) {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name, ""
	case *ast.SelectorExpr:
		if p, ok := f.X.(*ast.Ident); ok {
			of = p.Name
		}
		return f.Sel.Name, of
	}
	return "", ""
}

func isKind(e ast.Expr, kind string) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && s.Sel.Name == kind
}

var verb = regexp.MustCompile(`%[-+#.0-9]*[a-zA-Z]`)

// note adds a text unless all of it is filled in.
func (x *textFinder) note(e ast.Expr) {
	text := x.text(e)
	if strings.ContainsFunc(strings.ReplaceAll(text, "%s", ""), func(r rune) bool { return r >= 'a' && r <= 'z' }) {
		x.found[text] = x.fset.Position(e.Pos()).String()
	}
}

// text returns what an expression says, with %s for what is not known here.
func (x *textFinder) text(e ast.Expr) string {
	if text, ok := literal(e); ok {
		return verb.ReplaceAllString(text, "%s")
	}
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return strings.ReplaceAll(x.text(e.X)+x.text(e.Y), "%s%s", "%s")
	case *ast.ParenExpr:
		return x.text(e.X)
	case *ast.Ident:
		for _, known := range []map[string]string{x.local, x.consts} {
			if text, ok := known[e.Name]; ok {
				return verb.ReplaceAllString(text, "%s")
			}
		}
	case *ast.CallExpr:
		if name, of := called(e); of == "fmt" && name == "Sprintf" {
			return x.text(e.Args[0])
		}
	}
	return "%s"
}

// Every sentence that a client may read is there in every language, and no language has
// sentences that nobody says.
func TestEverythingIsTranslated(t *testing.T) {
	all := findTexts(t)
	if len(all) < 400 {
		t.Fatalf("%d texts were found: where are the others?", len(all))
	}
	for _, c := range []struct {
		tag   string
		table map[string]string
	}{{"de", german}} {
		u := usage{l: newLanguage(c.tag, c.table), alone: map[string]*language{}, used: map[string]bool{}}
		for key, to := range c.table {
			u.alone[key] = newLanguage("", map[string]string{key: to})
		}
		for text, at := range all {
			if !u.note(fill(text, filling)) {
				t.Errorf("%s: %s: there is no translation of %q", c.tag, at, text)
			}
		}
		for key, to := range c.table {
			if !u.used[key] {
				t.Errorf("%s: nobody says %q", c.tag, key)
			}
			checkTranslation(t, key, to)
		}
	}
}

// usage is which sentences of a language are said.
type usage struct {
	l     *language
	alone map[string]*language // each sentence as a language of its own
	used  map[string]bool
}

// note notes the sentence that what is said comes from, and tells whether there is one.
func (u *usage) note(said string) bool {
	to, ok := u.l.find(said, 0)
	if !ok {
		return false
	}
	for key, l := range u.alone {
		if got, ok := l.find(said, 0); !ok || got != to {
			continue
		}
		u.used[key] = true
		for _, f := range l.forms {
			found, _ := f.match(said)
			for i := range found {
				if f.inner[i] {
					u.note(found[i])
				}
			}
		}
	}
	return true
}

// checkTranslation holds a translation against its sentence: it is text, and says all
// that is filled in, once.
func checkTranslation(t *testing.T, key, to string) {
	t.Helper()
	n := len(filling.FindAllString(key, -1))
	for i := 1; i <= max(n, 3); i++ {
		want := 0
		if i <= n {
			want = 1
		}
		if strings.Count(to, fmt.Sprint("%", i)) != want {
			t.Errorf("%q has %d fillings, and its translation is %q", key, n, to)
		}
	}
	if to == "" || !utf8.ValidString(to) || strings.ContainsFunc(to, unicode.IsControl) || strings.HasPrefix(to, "[") {
		t.Errorf("%q is translated as %q", key, to)
	}
}

// fill puts something into a sentence.
func fill(text string, places *regexp.Regexp) string {
	n := 0
	return places.ReplaceAllStringFunc(text, func(string) string {
		n++
		return fmt.Sprint("Filled", n)
	})
}

func TestTranslate(t *testing.T) {
	l := newLanguage("x", map[string]string{
		"done": "getan", "%s done": "%1 ist getan", "expected %t, found %s": "%2 statt %1: 100%", "a space": "Leerraum",
		"a %s of %s": "%2s %1", "a %s of all": "alle %1",
	})
	for in, want := range map[string]string{
		"done": "getan", "LIST done": "LIST ist getan", "not known": "not known", "expected a space, found 'x'": "'x' statt Leerraum: 100%",
		"expected a list, found a space": "a space statt a list: 100%", "a set of all": "alle set", "a set of some": "somes set",
		" done": " ist getan", "a of all": "a of all", "expected , found ": " statt : 100%",
	} {
		if got := l.translate(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
