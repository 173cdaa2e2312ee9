package runbook

import (
	"encoding/json"
	"slices"
)

// SchemaID names the schema; it is no address to fetch it from.
const SchemaID = "urn:lifeboat:runbook:1"

// Schema is the JSON Schema (draft 2020-12) of the file, for editors: it knows the
// same fields, words and patterns as [Parse], from the same lists. What one part of
// a file says of another (names of machines, networks, steps) only Parse looks at.
func Schema() []byte {
	text, err := json.MarshalIndent(schemaOfBook(), "", "  ")
	if err != nil {
		panic(err) // plain data only
	}
	return append(text, '\n')
}

// object is a part of the schema.
type object = map[string]any

func schemaOfBook() object {
	book := fieldsOfObject(topFields, object{
		"version":    object{"const": Version, "description": "The version of the file's syntax."},
		"name":       described(pattern(namePattern), "What commands call the runbook; without it the file's name."),
		"purpose":    described(longText(messageLimit), "A sentence for people."),
		"contacts":   described(oneOrMany(ref("contact")), "Whom to call. No part of the meaning."),
		"period":     described(ref("span"), "How often a drill has to pass; 92 days without it."),
		"objectives": ref("objectives"),
		"tiers":      object{"type": "object", "description": "Objectives of single tiers, by number.", "propertyNames": pattern(`^[0-9]{1,2}$`), "additionalProperties": ref("objectives")},
		"lead_times": object{"type": "object", "description": "Time that passes before anybody can begin, such as travel.", "propertyNames": ref("line"), "additionalProperties": ref("span")},
		"hosts":      byName(ref("host"), "What may run on which host; \"*\" is any."),
		"networks":   byName(ref("network"), "Where the cards of the source's networks lead."),
		"groups":     byName(ref("group"), "Machines that come back from one export run."),
		"machines":   with(byName(ref("machine"), "The servers to bring back, by name."), "minProperties", 1),
		"steps":      described(many(ref("step"), stepsLimit), "What is done beside starting and checking each machine."),
	}, "version", "machines")
	book["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	book["$id"] = SchemaID
	book["title"] = "Lifeboat runbook"
	book["$defs"] = schemaParts()
	return book
}

func schemaParts() object {
	return object{
		// A line of text may look like a number or a moment.
		"line":       object{"type": []string{"string", "number", "boolean"}, "maxLength": 120},
		"word":       object{"type": []string{"string", "number", "boolean"}, "minLength": 1, "maxLength": 120},
		"span":       described(pattern(spanPattern), "A span of time, such as 90s, 45m, 1h30m, 90d, 3mo."),
		"size":       described(pattern(sizePattern), "An amount of memory, such as 512 MiB or 4 GiB."),
		"port":       count(65535),
		"command":    object{"anyOf": []any{with(ref("argument"), "pattern", `^\S+$`), with(many(ref("argument"), commandLimit), "minItems", 1)}, "description": "A program and its arguments."},
		"argument":   object{"type": []string{"string", "number", "boolean"}, "maxLength": argumentLimit},
		"address":    object{"type": "string", "pattern": `^[0-9A-Fa-f:.]+$`},
		"objectives": fieldsOfObject([]string{"rto", "rpo"}, object{"rto": described(ref("span"), "How long until a machine serves."), "rpo": described(ref("span"), "How old its data may be.")}),
		"contact":    fieldsOfObject([]string{"name", "role", "phone"}, object{"name": ref("word"), "role": ref("line"), "phone": ref("line")}, "name"),
		"host": orNothing(fieldsOfObject(hostFields, object{
			"tiers": oneOrMany(count(tierLimit)), "machines": oneOrMany(ref("word")), "memory": ref("size"), "cpus": count(cpuLimit), "boots": count(bootLimit),
		})),
		"network": orNothing(schemaOfNetwork()),
		"group":   fieldsOfObject([]string{"machines", "skew"}, object{"machines": with(oneOrMany(ref("word")), "minItems", 1), "skew": object{"enum": []string{"refuse", "allow"}}}, "machines"),
		"machine": orNothing(schemaOfMachine()),
		"check":   schemaOfCheck(),
		"step":    schemaOfStep(),
	}
}

func schemaOfNetwork() object {
	return with(fieldsOfObject(networkFields, object{
		"source":   described(oneOrMany(ref("line")), "The names of the networks at the source; without it the network's own name."),
		"cidr":     object{"type": "string", "pattern": `^[0-9A-Fa-f:.]+/[0-9]{1,3}$`},
		"recover":  object{"description": "Where it leads in a recovery. In a drill it is always isolated.", "anyOf": []any{object{"enum": cableWords}, fieldsOfObject([]string{"bridge"}, object{"bridge": ref("word")}, "bridge"), fieldsOfObject([]string{"network"}, object{"network": ref("word")}, "network")}},
		"forwards": described(oneOrMany(object{"type": "string", "pattern": `^(.+:)?[0-9]{1,5}:.+:[0-9]{1,5}$`}), "[ADDRESS:]HOSTPORT:MACHINE:PORT, in a recovery on a NAT."),
		"vpn":      described(ref("port"), "The UDP port by which staff reach the network of a NAT."),
		"names":    object{"type": "object", "description": "Names that the DNS answers beside those of the machines.", "propertyNames": pattern(hostPattern), "additionalProperties": ref("address")},
	}), "anyOf", []any{
		object{"properties": object{"recover": object{"const": string(CableNAT)}}},
		object{"not": object{"anyOf": []any{object{"required": []string{"vpn"}}, object{"required": []string{"forwards"}, "properties": object{"forwards": object{"anyOf": []any{object{"type": "string"}, object{"minItems": 1}}}}}}}},
	})
}

func schemaOfMachine() object {
	return fieldsOfObject(machineFields, object{
		"id":         described(pattern(`^[0-9a-f]{32}$`), "Lifeboat's id, for names that two machines had."),
		"point":      object{"description": "latest, latest-verified, a day or a moment.", "anyOf": []any{object{"enum": pointWords}, pattern(`^[0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?$`)}},
		"tier":       count(tierLimit),
		"after":      described(oneOrMany(ref("word")), "Machines whose checks pass before this one starts."),
		"host":       ref("line"),
		"memory":     ref("size"),
		"cpus":       count(cpuLimit),
		"addresses":  object{"type": "object", "propertyNames": ref("line"), "additionalProperties": ref("address")},
		"objectives": ref("objectives"),
		"checks":     many(ref("check"), checkLimit),
		"on_failure": object{"enum": failWords},
		"settle":     object{"type": "boolean", "description": "Move it to local disk in a recovery after its checks passed."},
	})
}

func schemaOfCheck() object {
	path := pattern(pathPattern)
	path["maxLength"] = bodyLimit
	web := object{"anyOf": []any{path, fieldsOfObject(webFields, object{
		"path": path, "port": ref("port"), "status": object{"type": "integer", "minimum": 100, "maximum": 599},
		"body": object{"type": []string{"string", "number", "boolean"}, "maxLength": bodyLimit}, "host": pattern(hostPattern),
	})}}
	values := object{
		string(CheckTCP):     object{"anyOf": []any{ref("port"), fieldsOfObject([]string{"port"}, object{"port": ref("port")}, "port")}},
		string(CheckHTTP):    web,
		string(CheckHTTPS):   web,
		string(CheckDNS):     object{"anyOf": []any{pattern(hostPattern), fieldsOfObject([]string{"name", "port"}, object{"name": pattern(hostPattern), "port": ref("port")}, "name")}},
		string(CheckPing):    object{"const": true},
		string(CheckAgent):   object{"const": true},
		string(CheckConsole): object{"type": []string{"string", "number", "boolean"}, "minLength": 1, "maxLength": bodyLimit},
		string(CheckCommand): ref("command"),
		string(CheckGuest):   ref("command"),
	}
	tries := []string{"within", "timeout", "passes"}
	values["within"], values["timeout"], values["passes"] = ref("span"), ref("span"), count(1000)
	var kinds []any
	for _, k := range checkKinds {
		allowed := append([]string{string(k)}, tries...)
		kinds = append(kinds, fieldsOfObject(allowed, values, string(k)))
	}
	return object{"type": "object", "oneOf": kinds}
}

func schemaOfStep() object {
	subject := object{"anyOf": []any{ref("word"), with(many(ref("word"), listLimit), "minItems", 1), fieldsOfObject([]string{"tier"}, object{"tier": count(tierLimit)}, "tier")}}
	message := with(longText(messageLimit), "pattern", `\S`)
	values := object{
		string(StepRun): ref("command"), string(StepConfirm): message, string(StepMessage): message, string(StepPause): ref("span"),
		"id": pattern(idPattern), "after": oneOrMany(ref("word")), "when": object{"enum": []string{"always", string(WhenDrill), string(WhenRecover)}},
		"who": ref("line"), "limit": ref("span"), "command": ref("command"), "done": ref("command"), "repeat": object{"const": "safe"},
		"env":       object{"type": "object", "propertyNames": pattern(envPattern), "additionalProperties": ref("argument")},
		"essential": object{"type": "boolean"}, "retries": count(100), "checks": many(ref("check"), checkLimit),
	}
	var kinds []any
	for _, k := range stepKinds {
		if values[string(k)] == nil {
			values[string(k)] = subject
		}
		words, ways := []string{string(k)}, failWords[:2]
		if k == StepCheck {
			words = append(words, waitWord)
			values[waitWord] = subject
		}
		if k == StepBoot || k == StepCheck {
			ways = failWords
		}
		for _, word := range words {
			values["on_failure"] = object{"enum": ways}
			needed := []string{word}
			if k == StepGuest {
				needed = append(needed, "command")
			}
			kinds = append(kinds, fieldsOfObject(slices.Concat([]string{word}, stepFields, fieldsOf[k]), values, needed...))
		}
	}
	return object{"type": "object", "oneOf": kinds}
}

// fieldsOfObject is an object with these fields and no others.
func fieldsOfObject(fields []string, values object, required ...string) object {
	properties := object{}
	for _, name := range fields {
		properties[name] = values[name]
	}
	o := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

// orNothing lets a name stand without fields.
func orNothing(o object) object {
	o["type"] = []string{"object", "null"}
	return o
}

// byName is an object whose keys people choose.
func byName(each object, what string) object {
	return object{"type": "object", "description": what, "propertyNames": ref("word"), "additionalProperties": each, "maxProperties": listLimit}
}

// many is a list, oneOrMany a list or its only item.
func many(each object, most int) object {
	return object{"type": "array", "items": each, "maxItems": most}
}

func oneOrMany(each object) object {
	return object{"anyOf": []any{each, many(each, listLimit)}}
}

func ref(name string) object { return object{"$ref": "#/$defs/" + name} }

func pattern(p string) object { return object{"type": "string", "pattern": p} }

func count(most int) object { return object{"type": "integer", "minimum": 1, "maximum": most} }

func longText(most int) object {
	return object{"type": []string{"string", "number", "boolean"}, "maxLength": most}
}

func described(o object, text string) object { return with(o, "description", text) }

// with is a part of the schema that says one thing more.
func with(o object, key string, value any) object {
	o[key] = value
	return o
}
