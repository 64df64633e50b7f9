package conf

import (
	"embed"
	"encoding"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// source is the text of the files that declare Config: their comments are the meanings
// of the keys, so that they are written down once.
//
//go:embed config*.go
var source embed.FS

// meanings maps "Type.Field" to the field's comment.
func meanings() map[string]string {
	all := map[string]string{}
	files, _ := source.ReadDir(".")
	for _, f := range files {
		text, _ := source.ReadFile(f.Name())
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), text, parser.ParseComments)
		if err != nil {
			continue // cannot be: the same text was compiled
		}
		collect(all, file)
	}
	return all
}

// collect adds the meanings that one file holds.
func collect(all map[string]string, file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		decl, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if table, ok := decl.Type.(*ast.StructType); ok {
			for _, f := range table.Fields.List {
				for _, name := range f.Names {
					all[decl.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
				}
			}
		}
		return false
	})
}

// Show writes every key with its meaning and its present value: a valid file, but
// for secrets, which are starred out.
func (c *Config) Show(w io.Writer) error {
	p := &printer{w: w, meanings: meanings(), full: true}
	p.table("", reflect.ValueOf(c).Elem(), reflect.ValueOf(Default()).Elem())
	return p.err
}

// Write writes the shortest file that reads as c: what differs from the defaults.
// Secrets are written.
func (c *Config) Write(w io.Writer) error {
	p := &printer{w: w}
	p.table("", reflect.ValueOf(c).Elem(), reflect.ValueOf(Default()).Elem())
	return p.err
}

type printer struct {
	w        io.Writer
	meanings map[string]string
	full     bool
	begun    bool
	unset    string // "# " while the keys of a block are shown of which there is none
	err      error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// table writes the plain keys of a table and then the tables in it, as TOML wants.
func (p *printer) table(path string, v, def reflect.Value) {
	var inner []reflect.StructField
	for _, f := range fieldsOf(v.Type()) {
		if isTable(f.Type) || f.Type.Kind() == reflect.Slice && isTable(f.Type.Elem()) {
			inner = append(inner, f)
			continue
		}
		p.value(v, def, f)
	}
	for _, f := range inner {
		full := join(path, f.Tag.Get("toml"))
		field := v.FieldByIndex(f.Index)
		if f.Type.Kind() == reflect.Slice {
			p.blocks(full, v.Type(), f, field)
			continue
		}
		before := def.FieldByIndex(f.Index)
		if p.full || hasPlainChange(field, before) {
			p.heading(v.Type(), f, "["+full+"]")
		}
		p.table(full, field, before)
	}
}

// blocks writes a list of tables. Of an empty one a block is shown that is a comment.
func (p *printer) blocks(full string, owner reflect.Type, f reflect.StructField, list reflect.Value) {
	blank := reflect.New(f.Type.Elem())
	setDefaults(blank.Interface())
	if p.full && list.Len() == 0 {
		p.heading(owner, f, "# [["+full+"]]")
		p.unset = "# "
		p.table(full, blank.Elem(), blank.Elem())
		p.unset = ""
	}
	for i := range list.Len() {
		p.heading(owner, f, "[["+full+"]]")
		p.table(full, list.Index(i), blank.Elem())
		defer p.explain(p.meanings)
		p.explain(nil) // once is enough
	}
}

func (p *printer) explain(meanings map[string]string) { p.meanings = meanings }

func (p *printer) heading(owner reflect.Type, f reflect.StructField, text string) {
	if p.begun {
		p.printf("\n")
	}
	p.begun = true
	p.comment(owner, f)
	p.printf("%s\n", text)
}

func (p *printer) comment(owner reflect.Type, f reflect.StructField) {
	if meaning := p.meanings[owner.Name()+"."+f.Name]; meaning != "" {
		p.printf("# %s\n", strings.ReplaceAll(meaning, "\n", "\n# "))
	}
}

// value writes one key.
func (p *printer) value(v, def reflect.Value, f reflect.StructField) {
	field := v.FieldByIndex(f.Index)
	if !p.full && reflect.DeepEqual(field.Interface(), def.FieldByIndex(f.Index).Interface()) {
		return
	}
	text := literal(field)
	if secret := f.Tag.Get("secret"); p.full && secret != "" && field.Len() > 0 {
		text = quote(starred)
		if secret == "url" {
			text = quote(Discreet(field.String()))
		}
	}
	p.begun = true
	p.comment(v.Type(), f)
	p.printf("%s%s = %s\n", p.unset, f.Tag.Get("toml"), text)
}

// starred stands for a secret.
const starred = "********"

// Discreet returns a connection string with its passwords starred out.
func Discreet(text string) string {
	head, options, more := strings.Cut(text, "?")
	if scheme, rest, found := strings.Cut(head, "://"); found {
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			if user, _, has := strings.Cut(rest[:i], ":"); has {
				head = scheme + "://" + user + ":" + starred + rest[i:]
			}
		}
	}
	if !more {
		return head
	}
	list := strings.Split(options, "&")
	for i, o := range list {
		if name, _, _ := strings.Cut(o, "="); strings.HasSuffix(strings.ToLower(name), "password") {
			list[i] = name + "=" + starred
		}
	}
	return head + "?" + strings.Join(list, "&")
}

func hasPlainChange(v, def reflect.Value) bool {
	for _, f := range fieldsOf(v.Type()) {
		if !isTable(f.Type) && !reflect.DeepEqual(v.FieldByIndex(f.Index).Interface(), def.FieldByIndex(f.Index).Interface()) {
			return true
		}
	}
	return false
}

// literal writes a value in TOML.
func literal(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Duration:
		return quote(x.String())
	case Size:
		return quote(x.String())
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		if err == nil {
			return quote(string(text))
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = literal(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return quote(v.String())
}

// quote writes a basic string (TOML 1.0, "String").
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
