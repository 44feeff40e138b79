# The options as they are declared, without nixpkgs: a type is its name and what it accepts, so that
# any Nix can list them and try values.
let
  inherit (builtins)
    all
    any
    attrNames
    concatMap
    concatStringsSep
    elem
    elemAt
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isString
    length
    match
    replaceStrings
    toJSON
    ;

  type = name: check: { inherit name check; };
  isNumber = value: isInt value || isFloat value;
  within =
    isRight: low: high:
    type "${toString low} to ${toString high}" (value: isRight value && low <= value && value <= high)
    // {
      inherit low high;
    };
  types = {
    addCheck = of: check: of // { check = value: of.check value && check value; };
    attrsOf = of: type "attribute set of ${of.name}" isAttrs;
    bool = type "boolean" isBool;
    either = a: b: type "${a.name} or ${b.name}" (value: a.check value || b.check value);
    enum =
      values:
      type "one of ${concatStringsSep ", " (map toJSON values)}" (value: elem value values)
      // {
        inherit values;
      };
    externalPath = type "path outside the store" (value: isString value && match "/.*" value != null);
    ints.between = within isInt;
    listOf = of: type "list of ${of.name}" (value: isList value && all of.check value);
    nonEmptyStr = type "string" (value: isString value && match "[ \t\n]*" value == null);
    nullOr =
      of:
      of
      // {
        name = "null or ${of.name}";
        check = value: value == null || of.check value;
      };
    numbers = {
      between = within isNumber;
      nonnegative = type "number" (value: isNumber value && value >= 0);
    };
    package = type "package" isAttrs;
    port = within isInt 0 65535 // {
      name = "port";
    };
    str = type "string" isString;
    strMatching = pattern: type "string" (value: isString value && match pattern value != null);
    submodule = module: type "settings" isAttrs // { inherit (module) options; };
  };
  lib = {
    inherit types;
    mkOption = option: option;
    mkEnableOption = what: {
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
    literalExpression = text: { inherit text; };
    last = list: elemAt list (length list - 1);
    toLower = replaceStrings letters.upper letters.lower;
  };
  letters = {
    upper = map (pair: elemAt pair 1) pairs;
    lower = map (pair: elemAt pair 0) pairs;
  };
  # Those of the units.
  pairs = [
    [
      "b"
      "B"
    ]
    [
      "g"
      "G"
    ]
    [
      "h"
      "H"
    ]
    [
      "i"
      "I"
    ]
    [
      "k"
      "K"
    ]
    [
      "m"
      "M"
    ]
    [
      "n"
      "N"
    ]
    [
      "s"
      "S"
    ]
  ];

  flat =
    prefix: options:
    concatMap (
      name:
      [
        {
          name = prefix + name;
          option = {
            readOnly = false;
          }
          // options.${name};
        }
      ]
      ++ flat "${prefix}${name}." (options.${name}.type.options or { })
    ) (attrNames options);

  declared = import ../../nix/options.nix {
    inherit lib;
    pkgs = { };
  };
  options = flat "" (declared.common // declared.system);
in
{
  listed = map (
    { name, option }:
    {
      inherit name;
      inherit (option) description readOnly;
      type = removeAttrs (option.type // { name = option.type.description or option.type.name; }) [
        "check"
        "description"
        "descriptionClass"
        "options"
      ];
      default =
        if option ? defaultText then
          option.defaultText.text
        else if option ? default then
          toJSON option.default
        else
          null;
    }
  ) options;

  # Whether the option of that name takes the value.
  takes = name: value: any (each: each.name == name && each.option.type.check value) options;
}
