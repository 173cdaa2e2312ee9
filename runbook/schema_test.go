package runbook

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is a file as an editor's plug-in hands it to a validator: moments are text.
func asJSON(t *testing.T, text []byte) (any, bool) {
	t.Helper()
	var root yaml.Node
	if yaml.Unmarshal(text, &root) != nil || len(root.Content) == 0 {
		return nil, false
	}
	var plain func(n *yaml.Node)
	plain = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!timestamp" {
			n.Tag = "!!str"
		}
		if n.Kind != yaml.AliasNode {
			for _, c := range n.Content {
				plain(c)
			}
		}
	}
	plain(&root)
	var v any
	if err := root.Decode(&v); err != nil {
		return nil, false
	}
	data, err := json.Marshal(stringKeys(v))
	if err != nil {
		return nil, false
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	return out, err == nil
}

// stringKeys makes the numbers of tiers keys of JSON.
func stringKeys(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := map[string]any{}
		for k, x := range v {
			text, _ := json.Marshal(k)
			out[strings.Trim(string(text), `"`)] = stringKeys(x)
		}
		return out
	case map[string]any:
		for k, x := range v {
			v[k] = stringKeys(x)
		}
	case []any:
		for i, x := range v {
			v[i] = stringKeys(x)
		}
	}
	return v
}

// onlyParse are the mistakes that a schema cannot see: YAML itself, what one part of
// the file says of another, and arithmetic.
var onlyParse = []string{"empty", "not-yaml", "tab", "two-documents", "tag", "twice", "control-character", "unknown-machine", "two-groups", "unknown-network", "bad-address",
	"forward-to-nobody", "short-period", "check-timeout", "step-after-nothing", "step-id-twice", "step-tier", "alias-of-itself", "alias-unknown", "alias-bomb"}

func TestTheSchemaAndTheParserAgree(t *testing.T) {
	schema := compiledSchema(t)
	for _, folder := range []string{"good", "errors"} {
		files, err := filepath.Glob("testdata/" + folder + "/*.yaml")
		if err != nil || len(files) == 0 {
			t.Fatal(folder, err)
		}
		for _, path := range files {
			name := strings.TrimSuffix(filepath.Base(path), ".yaml")
			if folder == "errors" && slices.Contains(onlyParse, name) {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			v, ok := asJSON(t, text)
			if !ok {
				t.Errorf("%s is no YAML", path)
				continue
			}
			err = schema.Validate(v)
			if folder == "good" && err != nil {
				t.Errorf("%s: the schema refuses what the parser reads:\n%v", path, err)
			}
			if folder == "errors" && err == nil {
				t.Errorf("%s: the schema takes what the parser refuses", path)
			}
		}
	}
}

// Every field that the parser knows is in the file that both read.
func TestTheSchemaKnowsEveryFieldThatTheParserKnows(t *testing.T) {
	text := string(Schema())
	for _, fields := range [][]string{topFields, hostFields, networkFields, machineFields, webFields, stepFields, workFields} {
		for _, f := range fields {
			if !strings.Contains(text, `"`+f+`"`) {
				t.Errorf("the schema lacks %s", f)
			}
			if _, whole := wholeBook(t); !strings.Contains(string(whole), f+":") {
				t.Errorf("testdata/good/whole.yaml lacks %s", f)
			}
		}
	}
}
