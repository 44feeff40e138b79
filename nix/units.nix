# The units of ../systemd as attribute sets: read from the files themselves, so that there is no
# copy that could differ. Needs nothing but builtins, so that every Nix can evaluate it.
let
  inherit (builtins)
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    head
    isString
    length
    mapAttrs
    match
    readFile
    split
    ;

  # [Section] and Name=value lines, as in systemd.syntax(7), less what the shipped files do without:
  # continued lines. `{ Section.Name = [ value ... ]; }`, values in the file's order.
  parse =
    path:
    (foldl'
      (
        state: line:
        let
          section = match "\\[(.+)]" line;
          setting = match "([A-Za-z0-9-]+)=(.*[^\\]|)" line;
          known = state.unit.${state.section};
          name = head setting;
        in
        if match "([#;].*)?" line != null then
          state
        else if section != null then
          {
            section = head section;
            unit = {
              ${head section} = { };
            }
            // state.unit;
          }
        else if setting != null && state.section != null then
          state
          // {
            unit = state.unit // {
              ${state.section} = known // {
                ${name} = known.${name} or [ ] ++ [ (elemAt setting 1) ];
              };
            };
          }
        else
          throw "${toString path}: this line is no unit file's: ${line}"
      )
      {
        section = null;
        unit = { };
      }
      (filter isString (split "\n" (readFile path)))
    ).unit;

  # Settings of `changes` in the place of those of the same name; null takes one away.
  change =
    unit: changes:
    unit
    // mapAttrs (
      section: settings:
      let
        all = unit.${section} or { } // settings;
      in
      removeAttrs all (filter (name: all.${name} == null) (builtins.attrNames all))
    ) changes;

  # As modules expect them, so that a user can set one anew or add to a list.
  simple = mapAttrs (
    _:
    mapAttrs (name: values: if length values == 1 && !(elem name additive) then head values else values)
  );
  additive = [
    "After"
    "Environment"
    "InaccessiblePaths"
    "ListenStream"
    "LoadCredential"
    "ReadWritePaths"
    "Requires"
    "SetCredential"
    "SystemCallFilter"
    "UnsetEnvironment"
    "WantedBy"
  ];

  # For a setting whose value systemd does not unquote, but searches for specifiers.
  literal = builtins.replaceStrings [ "%" ] [ "%%" ];

  # The same of a file, which may be in the runtime directory (%t) or the home (%h).
  fileName =
    file:
    let
      found = match "(%t|%h|[$][{]XDG_RUNTIME_DIR})(/.*)" file;
    in
    if found == null then
      literal file
    else
      (if head found == "%h" then "%h" else "%t") + literal (elemAt found 1);

  # One word of a command line or of Environment=. JSON's quoting is one that systemd understands.
  quoted = text: builtins.toJSON (literal text);

  # systemd replaces variables in the arguments, but not in the program's own path.
  commandLine =
    program: arguments:
    concatStringsSep " " (
      [ (quoted program) ] ++ map (each: quoted (builtins.replaceStrings [ "$" ] [ "$$" ] each)) arguments
    );

  assignments =
    variables: map (name: quoted "${name}=${variables.${name}}") (builtins.attrNames variables);

  shipped = {
    service = parse ../systemd/claude-proxy.service;
    socket = parse ../systemd/claude-proxy.socket;
    noSandbox = parse ../systemd/no-sandbox.conf;
  };
in
{
  inherit parse shipped;

  # The service and, with `socketActivation`, the socket that starts it.
  #
  #   program           path of claude-proxy
  #   arguments         list of its arguments
  #   environment       variables by name, less PATH
  #   unset             names of variables that it does not get, whoever sets them
  #   path              directories for PATH; systemd's specifiers are replaced in them
  #   credentials       files of keys, by what the program calls them
  #   sandbox           false: without what needs user namespaces
  #   socketActivation  false: the service itself listens, from login on
  #   listen            what the socket listens on, beside the one in the runtime directory
  units =
    {
      program,
      arguments,
      environment,
      unset,
      path,
      credentials,
      sandbox,
      socketActivation,
      listen,
    }:
    let
      ofRuntime = filter (address: match "%t/.*" address != null) shipped.socket.Socket.ListenStream;
      own = {
        ExecStart = [ (commandLine program arguments) ];
        Environment = [ (builtins.toJSON "PATH=${concatStringsSep ":" path}") ] ++ assignments environment;
      }
      // (if unset == [ ] then { } else { UnsetEnvironment = unset; })
      // (
        if credentials == { } then
          { }
        else
          {
            LoadCredential = map (name: "${name}:${fileName credentials.${name}}") (
              builtins.attrNames credentials
            );
            # Taken where that file is not there: the program then says so.
            SetCredential = map (name: "${name}:no file") (builtins.attrNames credentials);
          }
      );
      # What makes systemd's sockets like those that the program opens itself.
      ofSix = builtins.any (address: match "[[].*" address != null) listen;
      comesLate = builtins.any (
        address: match "(127[.]|0[.]0[.]0[.]0:|[[]::1?])..*" address == null
      ) listen;
      addresses = {
        ListenStream = listen ++ ofRuntime;
      }
      // (if ofSix then { BindIPv6Only = [ "ipv6-only" ]; } else { })
      // (if comesLate then { FreeBind = [ "yes" ]; } else { });
      alone = {
        Unit = {
          Requires = null;
          After = null;
        };
        Install = {
          Also = null;
          WantedBy = [ "default.target" ];
        };
      };
      service = change (if sandbox then shipped.service else change shipped.service shipped.noSandbox) {
        Service = own;
      };
    in
    {
      service = simple (
        if socketActivation then change service { Install.Also = null; } else change service alone
      );
    }
    // (
      if socketActivation then
        { socket = simple (change shipped.socket { Socket = addresses; }); }
      else
        { }
    );
}
