# The options as they are declared, without nixpkgs: types are their names, so that any Nix can
# list them.
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    toJSON
    ;

  # `accepts` says of numbers what they may be.
  type = name: { inherit name; };
  types = {
    attrsOf = of: type "attribute set of ${of.name}";
    bool = type "boolean";
    either = a: b: type "${a.name} or ${b.name}";
    enum = values: type "one of ${concatStringsSep ", " (map toJSON values)}" // { inherit values; };
    externalPath = type "path outside the store";
    ints = {
      between = low: high: type "${toString low} to ${toString high}" // { inherit low high; };
      positive = type "number" // {
        low = 1;
      };
    };
    listOf = of: type "list of ${of.name}";
    nonEmptyStr = type "string";
    nullOr = of: of // { name = "null or ${of.name}"; };
    numbers = {
      between = low: high: type "${toString low} to ${toString high}" // { inherit low high; };
      nonnegative = type "number" // {
        low = 0;
      };
    };
    package = type "package";
    port = type "port" // {
      low = 0;
      high = 65535;
    };
    str = type "string";
    strMatching = pattern: type "string" // { inherit pattern; };
    submodule = module: type "settings" // { inherit (module) options; };
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
  };

  described = type: if type ? description then type // { name = type.description; } else type;

  listed =
    prefix: options:
    concatMap (
      name:
      let
        option = {
          readOnly = false;
        }
        // options.${name};
        below = option.type.options or { };
      in
      [
        {
          name = prefix + name;
          type = removeAttrs (described option.type) [
            "options"
            "description"
            "descriptionClass"
          ];
          default =
            if option ? defaultText then
              option.defaultText.text
            else if option ? default then
              toJSON option.default
            else
              null;
          inherit (option) description readOnly;
        }
      ]
      ++ listed "${prefix}${name}." below
    ) (attrNames options);

  declared = import ../../nix/options.nix {
    inherit lib;
    pkgs = { };
  };
in
listed "" (declared.common // declared.system)
