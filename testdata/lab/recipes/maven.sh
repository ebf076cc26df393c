# Makes maven work without a network, in the tree given: sh maven.sh TREE.
set -eu
umask 022
cd "$1"

mkdir -p root/.m2
cat > root/.m2/settings.xml <<'SETTINGS'
<settings>
  <localRepository>/usr/share/maven-repo</localRepository>
  <offline>true</offline>
</settings>
SETTINGS

# Plugins ask for this version by default; Debian has the newer one only.
utils=usr/share/maven-repo/org/codehaus/plexus/plexus-utils
mkdir -p "$utils/1.1"
cp -L usr/share/java/plexus-utils2.jar "$utils/1.1/plexus-utils-1.1.jar"
cat > "$utils/1.1/plexus-utils-1.1.pom" <<'POM'
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.codehaus.plexus</groupId>
  <artifactId>plexus-utils</artifactId>
  <version>1.1</version>
</project>
POM
